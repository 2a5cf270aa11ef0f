"""Vanilla NeRF (Mildenhall et al. 2020): the reference that faster methods are measured against.

For objects before a plain background or with masks: nothing is modelled outside the region's cube, so photos that show
surroundings want `hash_density`. The defaults are the paper's and want a GPU; the presets are smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.camera import PoseSet
from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from tasks.train.options import SLICE_SAMPLES, NerfOptions

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.outcome import Trained

VERSION = "2"
OUTPUTS = "field"

Options = NerfOptions

PRESETS: dict[str, dict[str, object]] = {
    "preview": {
        "steps": 4000,
        "rays": 256,
        "depth": 4,
        "width": 64,
        "coarse_samples": 32,
        "fine_samples": 32,
        "position_frequencies": 6,
        "learning_rate": 5e-3,
    },
    "standard": {"steps": 50_000, "rays": 1024},
    "high": {},
}

LADDER = Ladder(
    memory={"photo_memory_gb": Lower(factor=0.5, least=0.25), "shards": Lower(factor=0.5, least=1)},
    time={"steps": Lower(factor=0.5, least=500)},
)

FLOPS = 9e10
"""Floating-point operations a second on two CPU cores, measured with small networks; large ones reach twice that."""


def _weights(options: Options) -> int:
    """Weights of one network, biases apart."""
    position, direction = 3 * (2 * options.position_frequencies + 1), 3 * (2 * options.direction_frequencies + 1)
    width = options.width
    trunk = 2 * position * width + (options.depth - 1) * width * width
    return trunk + width * width + (width + direction) * (width // 2) + 4 * width


def resources(options: Options) -> Resources:
    """What the stage needs, for captures whose photos fill the photo memory at most."""
    expected = estimate(options, photos=0, megapixels=0.0)
    return Resources(
        cpus=2,
        gpu_memory_gb=max(4.0, expected.memory_gb),
        memory_gb=expected.memory_gb + options.photo_memory_gb / 2,
        scratch_gb=1.0,
        timeout_s=max(3600.0, 6 * expected.seconds),
    )


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Expected seconds on two cores and peak memory for `photos` of `megapixels` each."""
    samples = options.rays * (2 * options.coarse_samples + options.fine_samples)
    work = options.steps * samples * 6.0 * _weights(options) / FLOPS
    seconds = work if options.seconds is None else min(options.seconds, work)
    pixels = min(photos * megapixels * 4e-3, options.photo_memory_gb)
    # A sample keeps its activations and their gradients; a slice holds one ray at the least.
    kept = max(SLICE_SAMPLES, options.coarse_samples + options.fine_samples)
    activations = options.shards * kept * (options.depth + 4) * options.width * 4 * 1.5e-9
    return Estimate(seconds=20.0 + 0.05 * photos + seconds, memory_gb=0.8 + pixels * 2 + activations)


def fit(poses: PoseSet, options: Options, context: Context) -> Trained:
    """Train on the pictures of the input `pose`."""
    from tasks.train.inputs import check_memory, megapixels_of
    from tasks.train.nerf_learner import fit_nerf

    check_memory(estimate(options, len(poses.images), megapixels_of(poses)).memory_gb, context)
    return fit_nerf(poses, options, context)
