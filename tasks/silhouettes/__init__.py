"""Silhouettes and the visual hull, for all stages that outline the object. A library, not a stage."""
