"""Neural fields: what a training stage hands on and the later stages ask for density, colour and normals."""

from models.fields.base import Field, load_field

__all__ = ["Field", "load_field"]
