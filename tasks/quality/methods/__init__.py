"""Ways of judging an asset."""
