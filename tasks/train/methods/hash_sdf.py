"""Signed distance field from a hash encoding: NeuS's rendering, Neuralangelo's slopes, photometric consistency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from models.camera import PoseSet
from models.resources import Estimate, Resources
from tasks.train.methods import hash_density

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.fit import Fitted

VERSION = "5"


class Options(hash_density.Options):
    """What can be chosen. Lengths are in field units: the region's cube is 2 wide."""

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
    def _one_surface(self) -> Options:
        if self.cascades != 1:
            raise ValueError(f"expected cascades of 1, found {self.cascades}: the surface lies in the inner cube")
        if self.levels_from > self.levels:
            raise ValueError(f"expected levels_from of at most levels {self.levels}, found {self.levels_from}")
        if self.sharpness_to < self.sharpness_from:
            raise ValueError(f"expected sharpness_to of at least sharpness_from, found {self.sharpness_to}")
        return self


PRESETS: dict[str, dict[str, object]] = {
    "preview": {"steps": 3000},
    "standard": {"steps": 15000, "log2_table": 19, "levels": 12, "max_resolution": 1024, "sharpness_to": 1000.0},
    "high": {
        "steps": 40000,
        "samples_per_step": 1 << 16,
        "max_rays": 8192,
        "log2_table": 20,
        "levels": 14,
        "max_resolution": 2048,
        "ray_steps": 1024,
        "sharpness_to": 1500.0,
        "colour_layers": 2,
    },
}

LADDER = hash_density.LADDER

SLOWER = 1.6
"""Seconds of a step, slopes and patches included, against the radiance field's."""

MORE_GB = 0.3
"""The first shape's field and the photos in grey, beyond what the radiance field takes."""


def resources(options: Options) -> Resources:
    """What the stage needs, for captures whose photos fill the photo memory at most."""
    base = hash_density.resources(options)
    return base.model_copy(update={"timeout_s": SLOWER * base.timeout_s, "memory_gb": base.memory_gb + MORE_GB})


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Expected seconds on two cores and peak memory for `photos` of `megapixels` each."""
    base = hash_density.estimate(options, photos, megapixels)
    seconds = SLOWER * base.seconds if options.seconds is None else base.seconds
    return Estimate(seconds=seconds, memory_gb=base.memory_gb + MORE_GB)


def fit(poses: PoseSet, options: Options, context: Context) -> Fitted:
    """Train on the pictures of the input `pose`."""
    from tasks.train.sdf_learner import fit_surface

    return fit_surface(poses, options, context)
