"""Ways to take photos in, one file each."""
