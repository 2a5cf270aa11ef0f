"""In which order, when, where: flows, the runner, the command line."""
