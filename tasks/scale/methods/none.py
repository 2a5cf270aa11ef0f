"""No scale is measured: the size is known only where the given poses are in metres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.record import Record
from models.resources import Estimate, Resources
from models.scale import POSES, MeasuredScale
from models.stage import Inputs

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "1"
PRESETS: dict[str, dict[str, object]] = {}


class Options(Record):
    """There is nothing to choose."""


def resources(options: Options) -> Resources:
    """Next to nothing."""
    return Resources(cpus=1, memory_gb=0.5, scratch_gb=0.1, timeout_s=300)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """A moment."""
    return Estimate(seconds=0.2, memory_gb=0.2)


def inputs(options: Options, capture_kind: str) -> Inputs:
    """The cameras say whether they are in metres."""
    return Inputs(required=("pose",))


def measure(context: Context, options: Options) -> MeasuredScale:
    """One metre a unit where the poses were given in metres; no size otherwise."""
    from tasks.stage_files import read_poses

    if read_poses(context).units == "metre":
        return MeasuredScale(metres_per_unit=1.0, source=POSES)
    return MeasuredScale()
