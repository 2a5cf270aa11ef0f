"""Signed distance field from a hash encoding: NeuS's rendering, Neuralangelo's slopes, photometric consistency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.camera import PoseSet
from models.resources import Estimate, Resources
from models.stage import Inputs
from tasks.train.costs import FIELD_LADDER, field_estimate, field_inputs, field_resources
from tasks.train.options import HashSDFOptions

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.outcome import Trained

VERSION = "12"
OUTPUTS = "field"

Options = HashSDFOptions

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

LADDER = FIELD_LADDER

SLOWER = 1.6
"""Seconds of a step, slopes and patches included, against the radiance field's."""

MORE_GB = 0.3
"""The first shape's field and the photos in grey, beyond what the radiance field takes."""


def resources(options: Options) -> Resources:
    """What the stage needs, for captures whose photos fill the photo memory at most."""
    base = field_resources(options)
    return base.model_copy(update={"timeout_s": SLOWER * base.timeout_s, "memory_gb": base.memory_gb + MORE_GB})


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Expected seconds on two cores and peak memory for `photos` of `megapixels` each."""
    base = field_estimate(options, photos, megapixels)
    seconds = SLOWER * base.seconds if options.seconds is None else base.seconds
    return Estimate(seconds=seconds, memory_gb=base.memory_gb + MORE_GB)


def inputs(options: Options, capture_kind: str) -> Inputs:
    """The poses, and what dense stereo found, if that is wanted."""
    return field_inputs(options)


def fit(poses: PoseSet, options: Options, context: Context) -> Trained:
    """Train on the pictures of the input `pose`."""
    from tasks.train.sdf_learner import fit_surface

    return fit_surface(poses, options, context)
