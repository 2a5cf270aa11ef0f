"""PatchMatch stereo, on a CPU or a GPU: slanted planes, joint view selection, a pyramid, geometric rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from models.results import StageResult
from tasks.dense.options import DenseOptions

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "8"
PRESETS: dict[str, dict[str, object]] = {
    "preview": {"edge_px": 640},
    "standard": {"edge_px": 960},
    "high": {"edge_px": 1600},
}
_SMALLER = {"edge_px": Lower(factor=0.7, least=320)}
LADDER = Ladder(memory=_SMALLER, disk=_SMALLER, time={**_SMALLER, "iterations": Lower(minus=1, least=2)})

Options = DenseOptions

PHOTOMETRIC_S, GEOMETRIC_S = 12.0, 4.5
"""Core seconds a megapixel, of the photometric pass with four iterations and of each geometric round (AVX-512)."""
WORKING_BYTES = 120
"""Main memory for each pixel of the photo at work and its sources."""
SHAPE_S, MASK_S = 20.0, 0.3
"""Core seconds of the surface of all maps, and of each photo's mask and gaps."""
POINT_BYTES = 60
"""Main memory for each pixel of a photo that becomes a point of the result."""
GPU_MEMORY_GB = 3.0
"""For the pixels of one photo that are searched at once, and torch itself."""


def is_available() -> bool:
    """Whether the kernel is compiled."""
    from tasks.stereo import kernel

    return kernel.library() is not None


def _map_megapixels(options: Options, megapixels: float) -> float:
    return float(min(megapixels, 0.75e-6 * options.edge_px**2))


def resources(options: Options) -> Resources:
    """Two cores; memory for the photos that are kept, and for the points of a large capture."""
    cost = estimate(options, 100, 12.0)
    return Resources(
        cpus=2,
        gpu_memory_gb=GPU_MEMORY_GB,
        memory_gb=cost.memory_gb,
        scratch_gb=4.0,
        timeout_s=max(1800.0, 6.0 * cost.seconds),
    )


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Core seconds a megapixel of depth; the pixels whose rays miss the region cost nothing."""
    pixels = photos * _map_megapixels(options, megapixels)
    work = PHOTOMETRIC_S * options.iterations / 4 + GEOMETRIC_S * options.geometric_rounds
    memory = 1.0 + options.photo_memory_gb + WORKING_BYTES * _map_megapixels(options, megapixels) * 1e-3
    return Estimate(
        seconds=5.0 + 0.5 * (pixels * work + SHAPE_S + MASK_S * photos),
        memory_gb=memory + 0.3 * pixels * POINT_BYTES * 1e-3,
    )


def densify(options: Options, context: Context) -> StageResult:
    """Estimate and fuse the depth of all training photos (files: docs/conventions.md).

    Raises DigitizeError(missing_dependency) on a CPU without a compiled kernel.
    """
    from tasks.dense.pipeline import make_dense

    return make_dense(options, context)
