"""Where a stage runs: in a child process here, or on a node of a Ray cluster. The only package that knows Ray."""
