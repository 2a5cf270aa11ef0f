"""Every tier in every format asked for, the points of dense stereo, and the cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.resources import Estimate, Resources
from models.results import StageResult
from tasks.export.options import ExportOptions

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "1"
_ALL = ("glb", "glb_draco", "usdz", "obj", "ply", "stl")
PRESETS: dict[str, dict[str, object]] = {"preview": {}, "standard": {"formats": _ALL}, "high": {"formats": _ALL}}

Options = ExportOptions

FORMAT_S = 4.0
"""Seconds to write three tiers of usual size in one format, on two busy cores."""
MESH_GB = 1.5
"""Main memory in GB for a mesh with maps of 4096 pixels while it is encoded."""
POINTS_GB = 0.02
"""Main memory in GB for the dense points of each megapixel of photos."""


def resources(options: Options) -> Resources:
    """One core; memory for the largest tier, and for the points of a large capture."""
    cost = estimate(options, 100, 12.0)
    return Resources(cpus=1, memory_gb=cost.memory_gb, scratch_gb=1.0, timeout_s=max(900.0, 8.0 * cost.seconds))


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Formats of usual tiers; how many tiers there are is the surface stage's choice."""
    points = POINTS_GB * photos * min(megapixels, 0.75) if options.points else 0.0
    return Estimate(seconds=1.0 + FORMAT_S * len(options.formats), memory_gb=MESH_GB + points)


def export(context: Context, options: Options) -> StageResult:
    """Write the files (docs/conventions.md).

    Raises DigitizeError(missing_dependency) before any work where a format's package is not installed here.
    """
    from tasks.export.pipeline import export_asset

    return export_asset(context, options)
