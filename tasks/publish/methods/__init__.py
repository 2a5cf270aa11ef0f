"""Ways of publishing, one file each."""
