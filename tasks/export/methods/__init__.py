"""Ways of exporting an asset, one file each (see tasks.registry)."""
