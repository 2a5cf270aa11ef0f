"""Radiance field from a hash encoding (Instant-NGP's recipe) with a small model of what lies outside the region."""

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

VERSION = "3"


class Options(BudgetOptions):
    """What can be chosen. Lengths are in field units: the region's cube is 2 wide."""

    samples_per_step: int = Field(default=1 << 15, ge=256)
    """Samples of a step; the number of rays follows. Lower it when memory is short."""
    max_rays: int = Field(default=4096, ge=16)
    """Most rays of a step, whatever the samples."""
    learning_rate: float = Field(default=1e-2, gt=0)
    """Adam's rate at the start. Lower it when training diverges."""
    average: float = Field(default=0.95, ge=0, lt=1)
    """Share that the running mean of the weights keeps at each step; the mean is what is handed on. 0 for none."""
    levels: int = Field(default=10, ge=1, le=24)
    """Resolutions of the hash encoding."""
    base_resolution: int = Field(default=16, ge=2)
    """Cells along an edge of the cube at the coarsest level."""
    max_resolution: int = Field(default=512, ge=4)
    """Cells along an edge at the finest level. Raise it with the photos' resolution: about one cell a pixel."""
    log2_table: int = Field(default=17, ge=8, le=24)
    """Entries of a hashed level, as a power of two. Raise it when fine detail stays grainy."""
    table_precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """What a GPU reads tables as; they are kept in float32 beside it. `float16` halves what it reads. No effect on a
    CPU."""
    hidden: int = Field(default=64, ge=8)
    """Width of the networks."""
    colour_layers: int = Field(default=1, ge=1, le=4)
    """Hidden layers of the colour network. Raise it for glossy objects."""
    occupancy_resolution: int = Field(default=96, ge=8, multiple_of=4)
    """Cells of the occupancy grid along an edge of the cube."""
    ray_steps: int = Field(default=512, ge=32)
    """Steps along the cube's diagonal. Raise it for thin parts."""
    background_levels: int = Field(default=6, ge=0, le=16)
    """Levels of the model of what lies outside the cube; 0 for captures before black."""
    cascades: int = Field(default=1, ge=1, le=8)
    """Cubes that are learned in full, each twice as wide as the last; above 1 only without background_levels. Raise it
    when the surroundings themselves are wanted."""
    mask_use: Literal["ignore", "empty"] = "ignore"
    """What masked pixels mean: `ignore` leaves them out, `empty` says that nothing of the object is there."""
    exposure: bool = False
    """Fit a gain to each photo. Turn it on when exposure or white balance changed during the capture."""
    error_map: bool = False
    """Draw half of the rays where the photos are explained worst. Turn it on for small details in large photos."""
    refine_cameras: bool = False
    """Correct the poses of the training photos as well. Turn it on when edges stay blurred or doubled."""
    distortion: float = Field(default=0.0, ge=0)
    """Weight of Mip-NeRF 360's distortion loss. Raise it (0.01) against floating specks."""
    near: float = Field(default=0.1, ge=0)
    """Nothing is closer to a camera than this."""
    minimum_views: int = Field(default=3, ge=0)
    """Parts of the cube that fewer cameras look at stay empty."""
    photo_memory_gb: float = Field(default=4.0, gt=0)
    """Main memory for the photos."""
    photos: Literal["auto", "memory", "stream"] = "auto"
    """Where the photos are: `memory` halves them until they fit into photo_memory_gb, `stream` keeps some of them there
    at full size and reads on while it trains, `auto` streams if they do not fit."""

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if self.base_resolution > self.max_resolution:
            raise ValueError(f"expected max_resolution of at least base_resolution {self.base_resolution}")
        if self.cascades > 1 and self.background_levels > 0:
            raise ValueError(
                f"expected background_levels of 0 with cascades of {self.cascades}, found {self.background_levels}: "
                f"one model of the surroundings is enough"
            )
        if self.ray_steps < (least := math.ceil(2 * math.sqrt(3) * self.occupancy_resolution)):
            raise ValueError(
                f"expected ray_steps of at least {least} for occupancy_resolution {self.occupancy_resolution}, "
                f"found {self.ray_steps}: steps must not jump over cells"
            )
        return self


PRESETS: dict[str, dict[str, object]] = {
    "preview": {"steps": 4000},
    "standard": {"steps": 15000, "log2_table": 19, "levels": 12, "max_resolution": 1024, "colour_layers": 2},
    "high": {
        "steps": 40000,
        "samples_per_step": 1 << 16,
        "max_rays": 8192,
        "log2_table": 20,
        "levels": 14,
        "max_resolution": 2048,
        "ray_steps": 1024,
        "occupancy_resolution": 128,
        "colour_layers": 2,
    },
}

LADDER = Ladder(
    memory={
        "photo_memory_gb": Lower(factor=0.5, least=0.25),
        "samples_per_step": Lower(factor=0.5, least=1 << 13),
        "log2_table": Lower(minus=1, least=15),
    },
    disk={"log2_table": Lower(minus=2, least=15)},
    time={"steps": Lower(factor=0.5, least=500)},
)

SAMPLES_PER_S = 1.1e6
"""Training samples a second on two CPU cores with 10 levels."""


def _table_gb(options: Options) -> float:
    return options.levels * float(1 << options.log2_table) * 2 * 4 / 1e9


def resources(options: Options) -> Resources:
    """What the stage needs, for captures whose photos fill the photo memory at most."""
    expected = estimate(options, photos=0, megapixels=0.0)
    return Resources(
        cpus=2,
        gpu_memory_gb=max(4.0, expected.memory_gb),
        memory_gb=expected.memory_gb + options.photo_memory_gb / 2,
        scratch_gb=1.0 + 8 * _table_gb(options),
        timeout_s=max(3600.0, 6 * expected.seconds),
    )


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Expected seconds on two cores and peak memory for `photos` of `megapixels` each."""
    work = options.steps * options.samples_per_step * (0.4 + 0.06 * options.levels)
    seconds = work / SAMPLES_PER_S if options.seconds is None else min(options.seconds, work / SAMPLES_PER_S)
    pixels = min(photos * megapixels * 4e-3, options.photo_memory_gb)
    # A sample keeps 8 corners of 8 bytes a level and about 2 kB of activations; the table has its gradient, two
    # moments and a snapshot of three of these; its mean comes twice as well.
    samples = options.samples_per_step * (options.levels * 64 + 2500) * 2e-9
    tables = (10 if options.average else 8) * _table_gb(options)
    return Estimate(seconds=20.0 + 0.05 * photos + seconds, memory_gb=0.8 + pixels * 2 + samples + tables)


def fit(poses: PoseSet, options: Options, context: Context) -> Fitted:
    """Train on the pictures of the input `pose`."""
    from tasks.train.fit import fit_radiance

    return fit_radiance(poses, options, context)
