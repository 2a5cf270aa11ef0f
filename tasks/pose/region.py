"""The region of interest: the cube that holds the object and not the room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models import frame
from models.camera import Camera, FloatArray, project
from models.points import SparsePoints
from tasks.pose.support import SupportPlane

BoolArray = npt.NDArray[np.bool_]

_CELLS = 24
_QUIET = 0.02
_MIN_POINTS = 12
_FAR = 2.0
"""Median distances from the cameras beyond which a point is backdrop, where all cameras face one way."""


@dataclass(frozen=True)
class Cube:
    """A level cube in the world."""

    centre: FloatArray
    half: float
    axes: FloatArray
    """[3, 3] rows: the cube's x, y, z in the world; z points up."""
    source: str
    """What it was found from: `points`, `silhouettes`, `cameras` or `given`."""

    @property
    def world_from_field(self) -> FloatArray:
        """[4, 4] similarity that takes [-1, 1]^3 to the cube."""
        m = np.eye(4)
        m[:3, :3] = self.half * self.axes.T
        m[:3, 3] = self.centre
        return m


def point_weights(points: SparsePoints, cameras: Sequence[Camera], c2w: FloatArray) -> FloatArray:
    """[P] how likely each point belongs to what was photographed.

    A point counts by how near to the middle of how many photos it falls (whether or not it was matched there), by
    the number of photos that did match it, and less when its error is large.
    """
    central = np.zeros(len(points.xyz))
    for camera, matrix in zip(cameras, c2w, strict=True):
        uv, depth = project(camera, matrix, points.xyz)
        off = (uv - [camera.width / 2, camera.height / 2]) / (0.5 * min(camera.width, camera.height))
        inside = (depth > 0) & (uv >= 0).all(1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
        # far outside the frame the distance overflows; only points inside count
        central[inside] += np.exp(-(off[inside] ** 2).sum(1))
    central /= max(len(cameras), 1)
    typical = max(float(np.median(points.error)) if len(points.error) else 0.0, 1e-6)
    trust = 1.0 / (1.0 + (points.error / (3.0 * typical)) ** 2)
    return np.asarray(central * np.minimum(points.views, 8) * trust, dtype=np.float64)


def weighted_median(points: FloatArray, weights: FloatArray) -> FloatArray:
    """[3] weighted geometric median of [P, 3] points (Weiszfeld 1937): it turns with the points."""
    middle = np.asarray(np.average(points, axis=0, weights=weights + 1e-300))
    size = max(float(np.abs(points - middle).max()), 1e-300)
    for _ in range(60):
        pull = weights / np.maximum(np.linalg.norm(points - middle, axis=1), 1e-6 * size)
        middle = np.asarray(np.average(points, axis=0, weights=pull + 1e-300))
    return middle


def find_region(
    points: FloatArray,
    weights: FloatArray,
    centres: FloatArray,
    view_axes: FloatArray,
    level: FloatArray,
    target: FloatArray,
    support: SupportPlane | None,
    margin: float,
) -> Cube | None:
    """The region of interest from sparse points; None when too few points speak for one.

    Args:
        points: [P, 3] sparse points, `weights` [P] from `point_weights`.
        centres, view_axes: [N, 3] camera centres and unit optical axes.
        level: [3, 3] rows of the level frame, z up.
        target: [3] what the cameras look at.
        margin: room on each side, as a share of the object's size.
    """
    if frame.faces_forward(view_axes):
        chosen = not_far(points, weights, centres)
        low_share = 0.005
    else:
        reach = float(np.percentile(np.linalg.norm(centres - target, axis=1), 60))
        chosen = object_points(points, weights, target, 0.85 * reach, support)
        low_share = 0.003
    if chosen.sum() < _MIN_POINTS:
        return None
    local = points[chosen] @ level.T
    low, high = (weighted_quantile(local, weights[chosen], share) for share in (low_share, 1.0 - low_share))
    return enclose(low, high, level, support, margin, "points")


def not_far(points: FloatArray, weights: FloatArray, centres: FloatArray) -> BoolArray:
    """[P] which points are at most twice as far from the cameras as the median: the rest is backdrop, and a region that
    held it would leave few cells for what was photographed."""
    distance = np.linalg.norm(points - centres.mean(0), axis=1)
    middle = weighted_quantile(distance[:, None], weights, 0.5)[0]
    return np.asarray((weights > 0) & (distance <= _FAR * middle))


def enclose(
    low: FloatArray, high: FloatArray, level: FloatArray, support: SupportPlane | None, margin: float, source: str
) -> Cube | None:
    """The cube around a level box [low, high] (in the frame `level`); it reaches just below the support."""
    middle = (low + high) / 2.0
    if support is not None:
        foot = middle @ level
        ground = (foot - support.height(foot[None])[0] / (support.normal @ level[2]) * level[2]) @ level[2]
        low = np.array([low[0], low[1], min(low[2], ground)])
    size = float((high - low).max())
    if not np.isfinite(size) or size <= 0:
        return None
    half = size * (0.5 + margin)
    middle = (low + high) / 2.0
    if support is not None:
        # nothing lies below a support: the cube's spare height goes above the object
        middle[2] = low[2] + half - 0.5 * margin * size
    return Cube(middle @ level, half, level, source)


def object_points(
    points: FloatArray, weights: FloatArray, target: FloatArray, reach: float, support: SupportPlane | None
) -> BoolArray:
    """[P] which points belong to the object: what stands on the support near `target`, in one piece.

    Points are gathered in cells; connected cells are pieces; the piece with most weight near `target` is the
    object, with every other piece that is nearly as heavy and as near.
    """
    near: BoolArray = (np.linalg.norm(points - target, axis=1) < reach) & (weights > 0)
    if support is not None:
        standing = near & (support.height(points) > 2.0 * support.tolerance)
        if weights[standing].sum() > 0.04 * weights[near].sum() and standing.sum() >= 2 * _MIN_POINTS:
            near = standing
    if near.sum() < _MIN_POINTS:
        return near
    return _main_piece(points, weights, near, target, reach)


def _main_piece(
    points: FloatArray, weights: FloatArray, near: BoolArray, target: FloatArray, reach: float
) -> BoolArray:
    from scipy import ndimage

    cell = np.clip(((points[near] - target) / reach * 0.5 + 0.5) * _CELLS, 0, _CELLS - 1).astype(np.int64)
    mass, count = np.zeros((_CELLS,) * 3), np.zeros((_CELLS,) * 3)
    np.add.at(mass, tuple(cell.T), weights[near])
    np.add.at(count, tuple(cell.T), 1)
    solid = (mass > _QUIET * np.percentile(mass[mass > 0], 95)) & (count >= 2)
    if not solid.any():
        return near
    pieces, number = ndimage.label(solid, structure=np.ones((3, 3, 3)))
    offset = (np.stack(np.meshgrid(*[np.arange(_CELLS)] * 3, indexing="ij"), -1) + 0.5) / _CELLS * 2.0 - 1.0
    pull = mass * np.exp(-(offset**2).sum(-1) / (2.0 * 0.35**2))
    scores = ndimage.sum_labels(pull, pieces, np.arange(1, number + 1))
    kept = 1 + np.flatnonzero(scores >= 0.3 * scores.max())
    inside = ndimage.binary_dilation(np.isin(pieces, kept), structure=np.ones((3, 3, 3)))
    inside &= ~((pieces > 0) & ~np.isin(pieces, kept))
    chosen: BoolArray = near.copy()
    chosen[near] = inside[tuple(cell.T)]
    return chosen


def weighted_quantile(values: FloatArray, weights: FloatArray, share: float) -> FloatArray:
    """[D] quantile of each column of [P, D] `values` under `weights` [P]."""
    result = []
    for column in values.T:
        order = np.argsort(column, kind="stable")
        mass = np.cumsum(weights[order])
        result.append(column[order][min(int(np.searchsorted(mass, share * mass[-1])), len(order) - 1)])
    return np.array(result)


def camera_region(
    cameras: Sequence[Camera], centres: FloatArray, target: FloatArray, level: FloatArray, axes: FloatArray
) -> Cube | None:
    """The region that all photos frame, from the cameras alone; None when they do not look at one thing."""
    if frame.faces_forward(axes):
        return None
    narrow = [min(c.width / c.fx, c.height / c.fy) / 2.0 for c in cameras]
    radius = float(np.median(np.linalg.norm(centres - target, axis=1) * narrow))
    return Cube(target, 0.8 * radius, level, "cameras")
