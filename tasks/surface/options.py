"""The options of the surface stage. Light: no torch, no open3d.

A method's own `Options` are one of these or a subclass, in the method's module.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from models.record import Record
from tasks.surface.tiers import TierName


class SurfaceOptions(Record):
    """What the steps of the stage read, whatever the mesh is made of."""

    support: Literal["keep", "cut"] = "keep"
    """`cut` removes the table or mat below the object where the pose stage found its plane; `keep` leaves it."""
    support_margin: float = Field(default=0.01, ge=0, le=0.25)
    """Height above the support at which the object is cut off, as a share of the region's side. Raise it when a rim
    of the mat stays at the object's foot."""
    cap: bool = True
    """Close the cut with a flat base, so that the object is solid; without it stays open there."""
    watertight: bool = True
    """Close every hole that is left; off, the mesh stays open where the method left holes. Manifold either way."""
    unseen: Literal["keep", "remove"] = "keep"
    """`remove` takes away the surface that fewer than two photos show, and leaves it open there; `keep` marks its
    vertices (`seen` in the PLY)."""
    floater_share: float = Field(default=0.02, ge=0, le=1)
    """Parts smaller than this share of the largest part's area are removed. Lower it for objects in several pieces."""
    tiers: tuple[TierName, ...] = Field(default=("thumb", "medium", "ar"), min_length=1)
    """Sizes in which the asset is made: `thumb` (20,000 faces, 1024 px), `low`, `medium`, `high` (150,000 faces; 1024,
    2048, 4096 px), `ar` (100,000 faces, 2048 px), `full` (the whole mesh with colours at its vertices, as PLY)."""
    faces: int = Field(default=150_000, ge=100)
    """Upper bound on the faces of every tier but `full`."""
    texture_size: int = Field(default=4096, ge=64, le=8192)
    """Upper bound on the pixels along every tier's maps."""
    angle_power: float = Field(default=2.0, ge=0, le=8)
    """How strongly photos that look straight at the surface are preferred to slanting ones."""
    blend_sharpness: float = Field(default=3.0, ge=0, le=16)
    """How strongly the best photo prevails: raise it when the texture is blurred, lower it when patches show."""
    equalise: bool = True
    """Take out differences in exposure between photos. Switch it off for photos of one fixed exposure."""

    @field_validator("tiers")
    @classmethod
    def _more_than_full(cls, tiers: tuple[TierName, ...]) -> tuple[TierName, ...]:
        if set(tiers) == {"full"}:
            raise ValueError(
                "expected a tier beside `full`: the asset that is measured and shown is one with a texture"
            )
        return tiers


class IsosurfaceOptions(SurfaceOptions):
    """What the surface of a field takes besides."""

    resolution: int = Field(default=384, ge=32, le=2048)
    """Cells along the region of interest. Raise it when fine relief is missing; time grows with its square."""
    smooth_cells: float | None = Field(default=None, ge=0, le=4)
    """Standard deviation, in cells, of a Gaussian over the field before the surface is taken: raise it when the
    surface is pitted, lower it when edges are rounded. By default 1 for densities, and 0 for distances, whose vertices
    are then moved onto the zero level exactly."""
