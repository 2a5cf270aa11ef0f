"""A mesh that the train stage made: cropped to the region, cleaned, cut off its support, baked from the photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from models.results import StageResult
from tasks.surface.costs import baking_memory_gb, baking_seconds
from tasks.surface.options import SurfaceOptions

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "5"
ACCEPTS = {"train": ("mesh",)}
PRESETS: dict[str, dict[str, object]] = {
    "preview": {"tiers": ("thumb",), "faces": 20_000, "texture_size": 1024},
    "standard": {"tiers": ("thumb", "medium", "ar"), "texture_size": 2048},
    "high": {"tiers": ("thumb", "low", "medium", "high", "ar", "full")},
}
"""Bounds are those of the largest tier, so that the first step down lowers something."""

_SMALLER = {"texture_size": Lower(factor=0.5, least=512)}
LADDER = Ladder(memory=_SMALLER, disk=_SMALLER, time={**_SMALLER, "faces": Lower(factor=0.5, least=5000)})

Options = SurfaceOptions

CLEANING_S = 15.0
"""Seconds to clean and close a mesh of a million faces, on two cores."""
MESH_GB = 2.0
"""Main memory in GB for a mesh of a million faces in a few copies."""


def resources(options: Options) -> Resources:
    """Two cores; memory for the full mesh, and the texels with the photos that they chose."""
    return Resources(
        cpus=2,
        memory_gb=MESH_GB + baking_memory_gb(options),
        scratch_gb=2.0,
        timeout_s=max(900.0, 8.0 * estimate(options, 100, 12.0).seconds),
    )


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Baking with texels and photos; cleaning a mesh of usual size."""
    seconds = CLEANING_S + baking_seconds(options, photos, megapixels)
    return Estimate(seconds=seconds, memory_gb=MESH_GB + baking_memory_gb(options))


def surface(context: Context, options: Options) -> StageResult:
    """Make the asset (files: docs/conventions.md).

    Raises DigitizeError(empty_surface, all_floaters, inside_out) when nothing usable is left of the mesh.
    """
    from tasks.surface.mesh_shape import find_shape
    from tasks.surface.pipeline import make_surface

    return make_surface(context, options, lambda scene: find_shape(scene, options, context))
