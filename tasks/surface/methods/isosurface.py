"""The field's iso-surface: extracted, cleaned, cut off its support, decimated, unwrapped, baked from the photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from models.results import StageResult
from tasks.surface.costs import baking_memory_gb, baking_seconds
from tasks.surface.options import IsosurfaceOptions

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "13"
ACCEPTS = {"train": ("field",)}
PRESETS: dict[str, dict[str, object]] = {
    "preview": {"resolution": 256, "tiers": ("thumb",)},
    "standard": {"resolution": 384, "tiers": ("thumb", "medium", "ar")},
    "high": {"resolution": 512, "tiers": ("thumb", "low", "medium", "high", "ar", "full")},
}

_SMALLER = {"resolution": Lower(factor=0.7, least=96), "texture_size": Lower(factor=0.5, least=512)}
LADDER = Ladder(memory=_SMALLER, disk=_SMALLER, time={**_SMALLER, "faces": Lower(factor=0.5, least=5000)})


Options = IsosurfaceOptions


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
    extraction = 30.0 * (options.resolution / 256.0) ** 2
    return Estimate(seconds=extraction + baking_seconds(options, photos, megapixels), memory_gb=_memory_gb(options))


def _memory_gb(options: Options) -> float:
    return 2.0 * (options.resolution / 512.0) ** 2 + baking_memory_gb(options)


def surface(context: Context, options: Options) -> StageResult:
    """Make the mesh and the asset (files: docs/conventions.md).

    Raises DigitizeError(empty_surface, all_floaters, inside_out, ...) when no level of the field gives a surface.
    """
    from tasks.surface.field_shape import find_shape
    from tasks.surface.pipeline import make_surface

    return make_surface(context, options, lambda scene: find_shape(scene, options, context))
