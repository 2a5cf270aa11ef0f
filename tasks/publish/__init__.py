"""Publish a finished asset: versioned, checksummed, manifest last."""
