"""File formats of the finished asset: each module has `SUFFIX` and `write(path, mesh, ...)`."""
