"""A mesh straight from dense stereo: no field is trained. For textured objects, real captures and concave parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from models.camera import PoseSet
from models.ladder import Ladder, Lower
from models.record import Record
from models.resources import Estimate, Resources
from models.stage import Inputs

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.outcome import Trained

VERSION = "4"
OUTPUTS = "mesh"
PRESETS: dict[str, dict[str, object]] = {
    "preview": {"resolution": 256},
    "standard": {"resolution": 384},
    "high": {"resolution": 512},
}
_COARSER = {"resolution": Lower(factor=0.7, least=96)}
LADDER = Ladder(memory=_COARSER, time=_COARSER)


class Options(Record):
    """How depth becomes a mesh."""

    surface: Literal["tsdf", "poisson"] = "tsdf"
    """`tsdf` averages the depth maps and leaves open what no photo agrees on; `poisson` closes gaps smoothly and may
    bulge there. Choose `poisson` where `tsdf` leaves many small holes."""
    resolution: int = Field(default=256, ge=32, le=1024)
    """Voxels along the region's side. Raise it with `edge_px` of the stage `dense` for finer relief; lower it when the
    surface is rough or has pinholes."""
    trim: float = Field(default=0.02, gt=0)
    """Distance from all points beyond which `poisson` keeps nothing, as a share of the region's side. Raise it to close
    wider gaps."""
    close_reach: float = Field(default=0.15, ge=0)
    """Gaps of masked objects are closed smoothly up to this distance from the measured surface, as a share of the
    region's side, except where photos look past it or have their masks' outside; 0 leaves them open. Lower it when
    something bulges out where photos saw nothing."""
    small_parts: float = Field(default=0.01, ge=0, lt=1)
    """Pieces of less than this share of the area are dropped. Lower it for objects of several small parts."""


def resources(options: Options) -> Resources:
    """One core; memory for the voxels."""
    cost = estimate(options, 100, 12.0)
    return Resources(cpus=1, memory_gb=cost.memory_gb, scratch_gb=1.0, timeout_s=max(900.0, 8.0 * cost.seconds))


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Voxels near the surface grow with the square of the resolution, those inside it with its cube."""
    area, volume = (options.resolution / 256) ** 2, (options.resolution / 256) ** 3
    poisson = 30.0 * area if options.surface == "poisson" else 0.0
    return Estimate(
        seconds=5.0 + 0.6 * photos * area + 4.0 * area + 0.1 * photos * volume + poisson,
        memory_gb=1.0 + 0.4 * area + 0.25 * volume,
    )


def inputs(options: Options, capture_kind: str) -> Inputs:
    """The cameras and what dense stereo found."""
    return Inputs(required=("pose", "dense"))


def fit(poses: PoseSet, options: Options, context: Context) -> Trained:
    """The surface of the depth maps. Raises DigitizeError(empty_surface) where they have none in the region."""
    from tasks.train.mvs import mesh_of_depth

    return mesh_of_depth(
        poses,
        context,
        surface=options.surface,
        resolution=options.resolution,
        trim=options.trim,
        small_parts=options.small_parts,
        close_reach=options.close_reach,
    )
