"""The options that the learners of this stage read. Light: no torch.

A method's own `Options` are one of these or a subclass, in the method's module.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from models.record import Record

MaskUse = Literal["auto", "ignore", "empty"]
"""What masked pixels mean."""


class BudgetOptions(Record):
    """The budget of the one training loop (trainer.train): it stops at the first of these."""

    steps: int = Field(default=6000, ge=1)
    """Optimisation steps. Raise it when the held-out PSNR of the report still climbs at the end."""
    seconds: float | None = Field(default=None, gt=0)
    """Stop after that many seconds of training as well. Equal inputs then no longer give equal bytes."""
    target_db: float = Field(default=0.0, ge=0)
    """Stop when the held-out PSNR reaches that many dB; 0 never does."""
    plateau_db: float = Field(default=0.0, ge=0)
    """Stop when three evaluations in a row together gained less than this many dB; 0 never does."""
    evaluate_every: int = Field(default=500, ge=1)
    """Steps between evaluations on held-out pixels."""
    checkpoint_every_s: float = Field(default=30.0, gt=0)
    """Seconds between checkpoints. Lower it on machines that are taken away without warning."""


class HashFieldOptions(BudgetOptions):
    """What fields of a hash encoding share. Lengths are in field units: the region's cube is 2 wide."""

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
    background: Literal["small", "large"] = "small"
    """Size of that model. `large` takes three times the samples outside the cube and lets colours change with the
    direction of view: try it on scenes of many photos; of few it learns the photos by heart."""
    mask_use: MaskUse = "auto"
    """What masked pixels mean: `ignore` leaves them out, `empty` says that nothing of the object is there. `auto`:
    `empty` for masks that the mask stage found and whose outlines it trusts (`mask_tolerance_px`), else `ignore`.
    Photos with found masks that are to be ignored are learned whole: such masks lose thin parts."""
    dense_prior: Literal["auto"] | bool = "auto"
    """Start from what the stage `dense` found, keep cells empty that photos see through, and hold the shape to its
    points. `auto`: where another method of the asset's list reads that stage. Turn it off where stereo is misled."""
    dense_weight: float = Field(default=1.0, ge=0)
    """Weight of those points at the start; it falls to a tenth. Lower it where stereo is noisy."""
    exposure: Literal["auto"] | bool = "auto"
    """Fit a gain to each photo and channel. `auto`: where the sparse points that photos share differ in brightness or
    colour. Turn it off for objects whose own light changes."""
    error_map: bool = False
    """Draw half of the rays where the photos are explained worst. Turn it on for small details in large photos."""
    robust: bool = False
    """Let pixels count less that no surface explains, as highlights and moving shadows, and photos that are blurred in
    comparison to the others. Turn it on where light moved between photos; it may cost small parts."""
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
    def _consistent(self) -> Self:
        if self.base_resolution > self.max_resolution:
            raise ValueError(f"expected max_resolution of at least base_resolution {self.base_resolution}")
        if self.ray_steps < (least := math.ceil(2 * math.sqrt(3) * self.occupancy_resolution)):
            raise ValueError(
                f"expected ray_steps of at least {least} for occupancy_resolution {self.occupancy_resolution}, "
                f"found {self.ray_steps}: steps must not jump over cells"
            )
        return self


class HashDensityOptions(HashFieldOptions):
    """What the learner of radiance fields reads."""

    cascades: int = Field(default=1, ge=1, le=8)
    """Cubes that are learned in full, each twice as wide as the last; above 1 only without background_levels. Raise it
    when the surroundings themselves are wanted."""

    @model_validator(mode="after")
    def _one_outside(self) -> Self:
        if self.cascades > 1 and self.background_levels > 0:
            raise ValueError(
                f"expected background_levels of 0 with cascades of {self.cascades}, found {self.background_levels}: "
                f"one model of the surroundings is enough"
            )
        return self


class HashSDFOptions(HashFieldOptions):
    """What the learner of signed distance fields reads."""

    learning_rate: float = Field(default=5e-3, gt=0)
    """Adam's rate at the start. Lower it when training diverges."""
    error_map: bool = True
    """Draw half of the rays where the photos are explained worst: at outlines, which alone place surfaces of one
    colour."""
    occupancy_resolution: int = Field(default=128, ge=8, multiple_of=4)
    """Cells of the occupancy grid along an edge of the cube."""
    rough_until: float = Field(default=0.2, ge=0, lt=1)
    """Share of the budget for a radiance field that the first shape is read from; 0 starts from a sphere."""
    initial_radius: float = Field(default=0.6, gt=0, lt=1)
    """Of the sphere that training starts from where there is no first shape."""
    sharpness_from: float = Field(default=60.0, gt=0)
    """Steepness of the surface at the start, in 1 / field unit. Lower it when parts never grow."""
    sharpness_to: float = Field(default=600.0, gt=0)
    """Steepness at the end. Raise it with the photos' resolution."""
    sharpen_until: float = Field(default=0.8, gt=0, le=1)
    """Share of the budget at which the surface is as steep as it gets."""
    levels_from: int = Field(default=4, ge=1)
    """Levels of the encoding at the start."""
    levels_until: float = Field(default=0.5, gt=0, le=1)
    """Share of the budget at which all levels are switched on."""
    directions_from: float = Field(default=0.35, ge=0, le=1)
    """Share of the budget before which colours do not depend on the viewing direction: what moves between photos must
    then be explained by shape. Lower it for shiny objects."""
    eikonal: float = Field(default=0.15, ge=0)
    """Weight of the eikonal term: slopes have length one. Raise it when the surface is bumpy."""
    curvature: float = Field(default=1e-4, ge=0)
    """Weight of the curvature term, which fades as finer levels come. Raise it against small bumps on flat parts."""
    carve: float = Field(default=0.1, ge=0)
    """Weight of the masks as a bound of the shape, where they say what is empty (`mask_use`), from when all levels are
    switched on; 0 for none. Lower it where masks cut into the object."""
    fill: float = Field(default=0.002, ge=0)
    """Weight of growing up to that bound: what colours do not place, flat parts of one colour, then lies where the
    masks end it. Lower it where hollows fill up."""
    flat: float = Field(default=3.0, ge=0)
    """Weight of being flat where photos have no texture and the shape is nearly flat at large; as `carve`, where masks
    say what is empty, once all levels are on. Lower it for smooth, gently curved objects of one colour."""
    ncc: float = Field(default=0.15, ge=0)
    """Weight of photometric consistency between neighbouring photos; 0 for none. Lower it for shiny objects."""
    ncc_patches: int = Field(default=256, ge=1)
    """Patches compared in a step."""
    ncc_from: float = Field(default=0.3, ge=0, le=1)
    """Share of the budget at which photos begin to be compared."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.levels_from > self.levels:
            raise ValueError(f"expected levels_from of at most levels {self.levels}, found {self.levels_from}")
        if self.sharpness_to < self.sharpness_from:
            raise ValueError(f"expected sharpness_to of at least sharpness_from, found {self.sharpness_to}")
        return self


SLICE_SAMPLES = 1 << 15
"""Samples whose activations are kept at once by each shard."""


class NerfOptions(BudgetOptions):
    """What the learner of `nerf` reads. Lengths are in field units: the region's cube is 2 wide."""

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
    mask_use: MaskUse = "auto"
    """What masked pixels mean: `ignore` leaves them out, `empty` says that nothing of the object is there. `auto`:
    `empty` for masks that the mask stage found and whose outlines it trusts (`mask_tolerance_px`), else `ignore`.
    Photos with found masks that are to be ignored are learned whole: such masks lose thin parts."""
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
    def _consistent(self) -> Self:
        if self.ray_steps < (least := math.ceil(2 * math.sqrt(3) * self.occupancy_resolution)):
            raise ValueError(
                f"expected ray_steps of at least {least} for occupancy_resolution {self.occupancy_resolution}, "
                f"found {self.ray_steps}: steps must not jump over cells"
            )
        return self
