"""Posed photos in, depth maps and the points on which they agree out."""
