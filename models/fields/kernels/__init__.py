"""The field's kernels: one set of operations, a backend for each kind of machine."""
