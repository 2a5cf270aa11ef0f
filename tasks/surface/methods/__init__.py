"""Ways of making a surface, one file each."""
