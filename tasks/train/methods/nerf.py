"""Vanilla NeRF (Mildenhall et al. 2020): the reference that faster methods are measured against.

For objects before a plain background or with masks: nothing is modelled outside the region's cube, so photos that show
surroundings want `hash_density`. The defaults are the paper's and want a GPU; the presets are smaller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from models.camera import PoseSet
from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from tasks.train.budget import BudgetOptions

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.fit import Fitted

VERSION = "1"


class Options(BudgetOptions):
    """What can be chosen. Lengths are in field units: the region's cube is 2 wide."""

    steps: int = Field(default=200_000, ge=1)
    """Optimisation steps. Raise it when the held-out PSNR of the report still climbs at the end."""
    rays: int = Field(default=4096, ge=1)
    """Rays of a step. Lower it for more steps in the same time."""
    coarse_samples: int = Field(default=64, ge=3)
    """Samples a ray of the coarse network."""
    fine_samples: int = Field(default=128, ge=1)
    """Further samples a ray for the fine network, where the coarse one finds light."""
    shards: int = Field(default=2, ge=1, le=64)
    """Parts of a step that are computed side by side, one a core. Another number gives other bytes."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Adam's rate at the start; it falls to a tenth. Lower it when training diverges."""
    depth: int = Field(default=8, ge=1, le=16)
    """Layers of the networks that see the position alone."""
    width: int = Field(default=256, ge=4, multiple_of=2)
    """Width of the layers. Time grows with its square."""
    position_frequencies: int = Field(default=10, ge=0, le=16)
    """Octaves of the position's encoding. Lower it for few or small photos, where fine waves only make grain."""
    direction_frequencies: int = Field(default=4, ge=0, le=16)
    """Octaves of the viewing direction's encoding. Raise it for glossy objects."""
    mask_use: Literal["ignore", "empty"] = "ignore"
    """What masked pixels mean: `ignore` leaves them out, `empty` says that nothing of the object is there."""
    white_background: bool = False
    """Whether what lies behind the cube is white, as in pictures that were composited so; black otherwise."""
    occupancy_resolution: int = Field(default=64, ge=8, multiple_of=4)
    """Cells, along an edge of the cube, of the grid that tells later stages where there is something."""
    ray_steps: int = Field(default=512, ge=32)
    """Steps along the cube's diagonal when the trained field is rendered. Raise it for thin parts."""
    near: float = Field(default=0.1, ge=0)
    """Nothing is closer to a camera than this."""
    minimum_views: int = Field(default=3, ge=0)
    """Parts of the cube that fewer cameras look at are empty in the trained field."""
    photo_memory_gb: float = Field(default=4.0, gt=0)
    """Main memory for the photos."""
    photos: Literal["auto", "memory", "stream"] = "auto"
    """Where the photos are: `memory` halves them until they fit into photo_memory_gb, `stream` keeps some of them there
    at full size and reads on while it trains, `auto` streams if they do not fit."""

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if self.ray_steps < (least := math.ceil(2 * math.sqrt(3) * self.occupancy_resolution)):
            raise ValueError(
                f"expected ray_steps of at least {least} for occupancy_resolution {self.occupancy_resolution}, "
                f"found {self.ray_steps}: steps must not jump over cells"
            )
        return self


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
SLICE_SAMPLES = 1 << 15
"""Samples whose activations are kept at once by each shard."""


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


def fit(poses: PoseSet, options: Options, context: Context) -> Fitted:
    """Train on the pictures of the input `pose`."""
    from tasks.train.nerf_learner import fit_nerf

    return fit_nerf(poses, options, context)
