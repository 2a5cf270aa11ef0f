"""The field's iso-surface: extracted, cleaned, cut off its support, decimated, unwrapped, baked from the photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from models.ladder import Ladder, Lower
from models.record import Record
from models.resources import Estimate, Resources
from models.results import StageResult
from tasks.surface.tiers import TierName, planned

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "6"
FormatName = Literal["glb", "glb_draco", "usdz", "obj", "ply", "stl"]
_ALL: tuple[FormatName, ...] = ("glb", "glb_draco", "usdz", "obj", "ply", "stl")
PRESETS: dict[str, dict[str, object]] = {
    "preview": {"resolution": 256, "tiers": ("thumb",)},
    "standard": {"resolution": 384, "tiers": ("thumb", "medium", "ar"), "formats": _ALL},
    "high": {"resolution": 512, "tiers": ("thumb", "low", "medium", "high", "ar", "full"), "formats": _ALL},
}

_SMALLER = {"resolution": Lower(factor=0.7, least=96), "texture_size": Lower(factor=0.5, least=512)}
LADDER = Ladder(memory=_SMALLER, disk=_SMALLER, time={**_SMALLER, "faces": Lower(factor=0.5, least=5000)})


class Options(Record):
    """Options of `isosurface`."""

    resolution: int = Field(default=384, ge=32, le=2048)
    """Cells along the region of interest. Raise it when fine relief is missing; time grows with its square."""
    smooth_cells: float | None = Field(default=None, ge=0, le=4)
    """Standard deviation, in cells, of a Gaussian over the field before the surface is taken: raise it when the
    surface is pitted, lower it when edges are rounded. By default 1 for densities, and 0 for distances, whose vertices
    are then moved onto the zero level exactly."""
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
    formats: tuple[FormatName, ...] = Field(default=("glb", "obj", "ply"), min_length=1)
    """Files of each tier but `full`: `glb`, `glb_draco` (compressed), `usdz`, `obj`, `ply`, `stl`."""

    @field_validator("tiers")
    @classmethod
    def _more_than_full(cls, tiers: tuple[TierName, ...]) -> tuple[TierName, ...]:
        if set(tiers) == {"full"}:
            raise ValueError(
                "expected a tier beside `full`: the asset that is measured and shown is one with a texture"
            )
        return tiers


def resources(options: Options) -> Resources:
    """Two cores; memory for one slab of the grid, the full mesh, and the texels with the photos that they chose."""
    return Resources(
        cpus=2,
        gpu_memory_gb=2,
        memory_gb=_memory_gb(options),
        scratch_gb=2.0,
        timeout_s=max(900.0, 8.0 * estimate(options, 100, 12.0).seconds),
    )


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Extraction grows with the surface of the grid, baking with texels and photos. Measured on two busy cores."""
    tiers = planned(options.tiers, options.faces, options.texture_size)
    extraction = 30.0 * (options.resolution / 256.0) ** 2
    shapes = sum(2.0 + 12.0 * faces / 100_000 for faces in {tier.faces for tier in tiers})
    size = max(tier.texture_size for tier in tiers)
    baking = 3.0 * (size / 1024.0) ** 2 + photos * (0.15 + 0.1 * megapixels)
    files = len(options.formats) * sum(0.3 + 0.25 * (tier.texture_size / 1024.0) ** 2 for tier in tiers)
    return Estimate(seconds=extraction + shapes + baking + files, memory_gb=_memory_gb(options))


def _memory_gb(options: Options) -> float:
    size = max(tier.texture_size for tier in planned(options.tiers, options.faces, options.texture_size))
    return 1.5 + 2.0 * (options.resolution / 512.0) ** 2 + 2.0 * (size / 4096.0) ** 2


def surface(context: Context, options: Options) -> StageResult:
    """Make the mesh and the asset (files: docs/conventions.md).

    Raises DigitizeError(empty_surface, all_floaters, inside_out, ...) when no level of the field gives a surface.
    """
    from tasks.surface.pipeline import make_surface

    return make_surface(context, options)
