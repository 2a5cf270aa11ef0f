"""Photos in, camera poses and a region of interest out: from overlap alone (COLMAP) or from cameras given."""
