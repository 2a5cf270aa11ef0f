"""Radiance field from a hash encoding (Instant-NGP's recipe) with a small model of what lies outside the region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.camera import PoseSet
from models.resources import Estimate, Resources
from models.stage import Inputs
from tasks.train.costs import FIELD_LADDER, field_estimate, field_inputs, field_resources
from tasks.train.options import HashDensityOptions

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.outcome import Trained

VERSION = "9"
OUTPUTS = "field"

Options = HashDensityOptions

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

LADDER = FIELD_LADDER


def resources(options: Options) -> Resources:
    """What the stage needs, for captures whose photos fill the photo memory at most."""
    return field_resources(options)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Expected seconds on two cores and peak memory for `photos` of `megapixels` each."""
    return field_estimate(options, photos, megapixels)


def inputs(options: Options, capture_kind: str) -> Inputs:
    """The poses, and what dense stereo found, if that is wanted."""
    return field_inputs(options)


def fit(poses: PoseSet, options: Options, context: Context) -> Trained:
    """Train on the pictures of the input `pose`."""
    from tasks.train.radiance_learner import fit_radiance

    return fit_radiance(poses, options, context)
