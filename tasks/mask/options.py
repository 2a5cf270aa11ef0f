"""The options that every mask method has. Light."""

from __future__ import annotations

from pydantic import Field

from models.record import Record

NETWORK = "mask_network"
"""The network that an asset's specification gives under `masks`, as an input."""


class MaskOptions(Record):
    """Options that every mask method has."""

    min_points: int = Field(default=50, ge=0)
    """Sparse points that must lie on the object where it is not carved by depth. Lower it for objects without texture,
    whose masks look right."""
    region_margin: float = Field(default=0.06, ge=0, le=1)
    """Room left around the masks' hull on each side, as a share of its size. Raise it when the object is cut off."""
    depth_edge_px: int = Field(default=512, ge=128)
    """Long edge of the depth maps that carve the object. Raise it for thin parts; time and memory grow with its
    square."""
    weights_missing: bool = False
    """Filled in: the network's weights are not installed where the run was planned, so its method was not chosen."""


def depth_maps_gb(photos: int, edge_px: int) -> float:
    """Main memory of the depth maps and colours that the object is carved with, of 60 photos at most."""
    return 7.5e-3 * min(photos, 60) * (edge_px / 512.0) ** 2
