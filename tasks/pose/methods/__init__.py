"""Pose methods, one file each: see tasks/registry.py."""
