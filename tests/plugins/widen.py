"""A stage in one file, between `pose` and `train`: a wider region of interest for all that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from models.record import Record
from models.resources import Estimate, Resources

if TYPE_CHECKING:
    from models.results import StageRequest, StageResult
    from tasks.context import Context

AFTER = ("pose",)
REFINES = ("pose",)
VERSION = "1"
PRESETS: dict[str, dict[str, object]] = {}


class Options(Record):
    """What can be chosen."""

    factor: float = Field(default=1.25, gt=0)
    """How much wider the region is than the pose stage found it. Raise it when the object is cut off."""


def resources(options: Options) -> Resources:
    """Next to nothing."""
    return Resources(cpus=1, memory_gb=0.5, scratch_gb=0.1, timeout_s=60)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """A moment."""
    return Estimate(seconds=0.2, memory_gb=0.2)


def run(request: StageRequest, context: Context) -> StageResult:
    """Write `poses.json` with a larger cube; pictures and points stay the pose stage's."""
    import numpy as np

    from models.artifacts import POSES_FILE
    from models.camera import matrix4
    from models.digest import canonical_json
    from models.results import StageResult
    from tasks.stage_files import read_poses

    options = Options.model_validate(request.options)
    poses = read_poses(context)
    wider = np.array(poses.world_from_field) @ np.diag([options.factor] * 3 + [1.0])
    changed = poses.model_copy(update={"world_from_field": matrix4(wider)})
    (context.output / POSES_FILE).write_bytes(canonical_json(changed))
    return StageResult(facts={"factor": options.factor})
