"""Metrics as pure functions, one file each."""
