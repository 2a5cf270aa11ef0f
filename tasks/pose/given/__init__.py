"""Cameras measured elsewhere: readers of their files, and the check against the photos."""
