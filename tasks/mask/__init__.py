"""Masks of the object without drawing one, and the region of interest fitted to them."""
