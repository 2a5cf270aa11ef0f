"""What the phone-style sample's object is made of. Light: the command line reads it."""

from __future__ import annotations

from enum import StrEnum


class Material(StrEnum):
    """Paint is matt unless it is made glossy; mirror and clear glass cannot be measured from photos."""

    PAINT = "paint"
    MIRROR = "mirror"
    GLASS = "glass"
