"""Nightly batches: which assets, when, within which hours, and what came of them."""
