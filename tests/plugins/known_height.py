"""A kind of scale in one file: the height of the object, as somebody measured it on the shelf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from models.record import Record
from models.resources import Estimate, Resources
from models.stage import Inputs

if TYPE_CHECKING:
    from models.scale import MeasuredScale
    from tasks.context import Context

VERSION = "1"
PRESETS: dict[str, dict[str, object]] = {}


class Options(Record):
    """The keys of `scale: {kind: known_height}`."""

    height_m: float = Field(gt=0)
    """Metres from the object's foot to its top. Measure it with a calliper."""


def resources(options: Options) -> Resources:
    """Next to nothing."""
    return Resources(cpus=1, memory_gb=0.5, scratch_gb=0.1, timeout_s=60)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """A moment."""
    return Estimate(seconds=0.2, memory_gb=0.2)


def inputs(options: Options, capture_kind: str) -> Inputs:
    """The mesh alone: no photo is looked at."""
    return Inputs(required=("surface",))


def measure(context: Context, options: Options) -> MeasuredScale:
    """Metres a unit: the height given over that of the main tier, whose file has Y up."""
    import numpy as np
    import trimesh

    from models.artifacts import ASSET_FILE
    from models.scale import MeasuredScale
    from models.stage import Stage
    from tasks.stage_files import fetch

    mesh = trimesh.load(fetch(context, Stage.SURFACE, ASSET_FILE), force="mesh", process=False)
    height = float(np.ptp(mesh.vertices[:, 1]))
    return MeasuredScale(metres_per_unit=options.height_m / height, source="known_height")
