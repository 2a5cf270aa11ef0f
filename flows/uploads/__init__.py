"""Runs that uploads start."""
