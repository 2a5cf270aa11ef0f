"""Ways to find the object in the photos, one file each."""
