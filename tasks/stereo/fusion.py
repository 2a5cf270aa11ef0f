"""Points on which depth maps agree (Schoenberger et al. 2016, section 5; thresholds as in ACMM)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.camera import Camera, Matrix4, invert_rigid, transform_points
from models.record import Record
from tasks.stereo.maps import DepthMap

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
SPECKLE_DEPTH = 0.01
"""Neighbouring pixels belong together where their depths differ by less than this share."""


class FusionSettings(Record):
    """When a pixel of one depth map and one of another show the same place."""

    least_views: int = 2
    """Other photos that must agree."""
    most_error_px: float = 2.0
    """Forward-backward error."""
    most_depth: float = 0.01
    """Difference of the depths as a share."""
    most_normal_deg: float = 25.0
    """Angle between the normals."""
    speckle_px: int = 24
    """Connected pieces of fewer pixels are dropped."""


@dataclass(frozen=True)
class MapView:
    """The camera of one depth map and the photos that it is compared with."""

    camera: Camera
    """Of the depth map's size."""
    c2w: Matrix4
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Points:
    """Oriented, coloured points in the world."""

    xyz: npt.NDArray[np.float32]
    """[P, 3]"""
    normal: npt.NDArray[np.float32]
    """[P, 3] unit, towards the photo that found the point."""
    rgb: npt.NDArray[np.uint8]
    """[P, 3] sRGB."""
    views: npt.NDArray[np.uint8]
    """[P] photos that agree, the finder included."""
    confidence: npt.NDArray[np.float32]
    """[P] in [0, 1], mean over the photos that agree."""

    def where(self, keep: BoolArray) -> Points:
        """Some of the points."""
        return Points(self.xyz[keep], self.normal[keep], self.rgb[keep], self.views[keep], self.confidence[keep])

    @staticmethod
    def joined(parts: Sequence[Points]) -> Points:
        """All points of some sets, in order; an empty set for none."""
        none = np.zeros((0, 3), np.float32)
        empty = Points(none, none, none.astype(np.uint8), np.zeros(0, np.uint8), np.zeros(0, np.float32))
        every = [empty, *parts]
        return Points(
            np.concatenate([p.xyz for p in every]),
            np.concatenate([p.normal for p in every]),
            np.concatenate([p.rgb for p in every]),
            np.concatenate([p.views for p in every]),
            np.concatenate([p.confidence for p in every]),
        )


class _Meeting(NamedTuple):
    """One map's pixels with depth, N of them, and the other maps' that agree."""

    rows: IntArray
    columns: IntArray
    normal: FloatArray
    """[N, 3] in the world."""
    total: FloatArray
    """[N, 3] sum of the places, the map's own included."""
    votes: IntArray
    """[N] maps that agree, itself included."""
    confidence: FloatArray
    """[N] sum over these."""
    others: list[tuple[int, IntArray, IntArray, IntArray]]
    """Another map with the indices of the pixels that it agrees with, and its rows and columns there."""
    agreed: BoolArray
    """[H, W] where there are enough."""


class Fusion:
    """Fuses depth maps one after the other; a place that several maps show becomes one point.

    Args:
        views: the cameras, one a depth map.
        load: the depth map of a view; called again for each map that it is compared with.
        settings: when maps agree.
    """

    def __init__(self, views: Sequence[MapView], load: Callable[[int], DepthMap], settings: FusionSettings) -> None:
        self._views = views
        self._load = load
        self._settings = settings
        self._used = [np.zeros((view.camera.height, view.camera.width), bool) for view in views]

    def add(self, k: int, rgb: npt.NDArray[np.uint8]) -> tuple[Points, BoolArray]:
        """Fuse one map.

        Args:
            k: the view.
            rgb: [H, W, 3] its picture at the map's size.

        Returns:
            the points that no earlier map gave, and [H, W] where enough other maps agree with this one.
        """
        met = self._compare(k)
        enough = met.agreed[met.rows, met.columns]
        fresh = enough & ~self._used[k][met.rows, met.columns]
        for j, index, r, c in met.others:
            theirs = fresh[index]
            self._used[j][r[theirs], c[theirs]] = True
        points = Points(
            (met.total / met.votes[:, None])[fresh].astype(np.float32),
            met.normal[fresh].astype(np.float32),
            rgb[met.rows, met.columns][fresh],
            met.votes[fresh].astype(np.uint8),
            (met.confidence / met.votes)[fresh].astype(np.float32),
        )
        return points, met.agreed

    def mean_depth(self, k: int) -> npt.NDArray[np.float32]:
        """[H, W] depth of the mean of the places that agreeing maps show; 0 where too few agree with a view's."""
        met = self._compare(k)
        depth = np.zeros(met.agreed.shape, np.float32)
        depth[met.rows, met.columns] = projected(self._views[k], met.total / met.votes[:, None])[1]
        return np.where(met.agreed, depth, np.float32(0))

    def agreed(self, k: int) -> BoolArray:
        """[H, W] where enough other maps agree with a view's."""
        return self._compare(k).agreed

    def _compare(self, k: int) -> _Meeting:
        """What the other maps say of one."""
        found, view = self._load(k), self._views[k]
        rows, columns = np.nonzero(found.depth > 0)
        pixels: FloatArray = np.stack([columns, rows], 1).astype(np.float64) + 0.5
        xyz = back_project(view, pixels, found.depth[rows, columns])
        normal = found.normal[rows, columns].astype(np.float64) @ np.array(view.c2w)[:3, :3].T
        total, votes = xyz.copy(), np.ones(len(xyz), np.int64)
        confidence = found.confidence[rows, columns].astype(np.float64)
        others = []
        for j in view.sources:
            index, (r, c), theirs = self._agreeing(k, j, pixels, xyz, normal)
            total[index] += theirs
            votes[index] += 1
            confidence[index] += self._load(j).confidence[r, c]
            others.append((j, index, r, c))
        agreed = np.zeros(found.depth.shape, bool)
        agreed[rows, columns] = votes > self._settings.least_views
        agreed &= ~speckles(np.where(agreed, found.depth, 0), self._settings.speckle_px)
        return _Meeting(rows, columns, normal, total, votes, confidence, others, agreed)

    def _agreeing(
        self, k: int, j: int, pixels: FloatArray, xyz: FloatArray, normal: FloatArray
    ) -> tuple[IntArray, tuple[IntArray, IntArray], FloatArray]:
        """Which points view j shows as well: their indices, j's pixels (rows, columns), and j's own points."""
        found, view, s = self._load(j), self._views[j], self._settings
        uv, z = projected(view, xyz)
        u, v = uv.T
        index = np.flatnonzero((z > 0) & (u >= 0) & (v >= 0) & (u < view.camera.width) & (v < view.camera.height))
        z, r, c = z[index], v[index].astype(np.int64), u[index].astype(np.int64)
        depth = found.depth[r, c]
        near = (depth > 0) & (np.abs(depth - z) < s.most_depth * z)
        index, r, c, depth = index[near], r[near], c[near], depth[near]
        theirs = back_project(view, np.stack([c, r], 1) + 0.5, depth)
        back, _ = projected(self._views[k], theirs)
        u, v = (back - pixels[index]).T
        good = np.hypot(u, v) < s.most_error_px
        other = found.normal[r, c].astype(np.float64) @ np.array(view.c2w)[:3, :3].T
        good &= np.einsum("ij,ij->i", other, normal[index]) > np.cos(np.radians(s.most_normal_deg))
        return index[good], (r[good], c[good]), theirs[good]


def back_project(view: MapView, pixels: FloatArray, depth: npt.NDArray[np.float32]) -> FloatArray:
    """[N, 3] world points of pixels [N, 2] (centres at +0.5) at depths [N] along z."""
    camera = view.camera
    local = np.concatenate([(pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy], np.ones((len(pixels), 1))], 1)
    return transform_points(view.c2w, local * depth[:, None].astype(np.float64))


def projected(view: MapView, xyz: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pixels [N, 2] and depths [N] of world points; pixels are far outside where depth <= 0."""
    camera = view.camera
    local = transform_points(invert_rigid(view.c2w), xyz)
    z = local[:, 2]
    safe = np.where(z > 1e-12, z, 1e-12)
    uv = np.clip(local[:, :2] / safe[:, None] * [camera.fx, camera.fy] + [camera.cx, camera.cy], -1e9, 1e9)
    return np.asarray(uv), z


def speckles(depth: npt.NDArray[np.floating], least_px: int) -> BoolArray:
    """[H, W] pixels of connected pieces with fewer than `least_px` pixels; depth 0 belongs to none."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    number = np.arange(depth.size).reshape(depth.shape)
    pairs = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        joined = (depth[a] > 0) & (depth[b] > 0)
        joined &= np.abs(depth[a] - depth[b]) < SPECKLE_DEPTH * np.minimum(depth[a], depth[b])
        pairs.append(np.stack([number[a][joined], number[b][joined]]))
    rows, columns = np.concatenate(pairs, 1)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(depth.size, depth.size))
    _, label = connected_components(graph, directed=False)
    small = np.bincount(label)[label].reshape(depth.shape) < least_px
    return np.asarray(small & (depth > 0))
