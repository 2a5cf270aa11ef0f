"""Planes for weakly textured parts: what lies between sure pixels is taken to be flat (ACMP, Xu and Tao 2020).

A patch without texture matches anywhere. The pixels around it that other photos agree with span triangles in the photo,
and each triangle is a plane. Planes of several photos agree where the surface is flat, so fusion drops the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import Camera, FloatArray
from tasks.stereo.maps import DepthMap, Float32Array
from tasks.stereo.photo import Level

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

CELL = 5
"""Pixels along a cell, of which the surest pixel becomes a corner of triangles."""
LONGEST_PX = 120.0
"""Longest edge of a triangle: beyond, nothing says that the surface goes on."""
LEAST_COSINE = 0.12
"""Of the angle between a triangle's normal and the ray: flatter ones join a thing with what lies behind it."""
ALIKE = 20
"""Grey values that a pixel differs from its triangle's corners at most: others show what lies before or behind it."""
WINDOW = 11
"""Pixels along a patch of the kernel."""
PLAIN_VARIANCE = 60.0
"""In squared grey values: patches below are weakly textured; a phone's noise and JPEG alone make up to 20."""


@dataclass(frozen=True)
class Planes:
    """Planes through sure pixels, where a photo is plain."""

    depth: Float32Array
    """[H, W] along z in world units, 0 where there is no plane."""
    normal: Float32Array
    """[H, W, 3] unit normals in camera axes, towards the camera."""
    sure: BoolArray
    """[H, W] pixels whose own depth other photos agree with."""


def planes_between(level: Level, found: DepthMap, sure: BoolArray) -> Planes:
    """The planes of the triangles between sure pixels, at the plain pixels of a photo's mask.

    Args:
        level: the size of the photo that the map is of.
        sure: [H, W] pixels whose depth other photos agree with.
    """
    shape = found.depth.shape
    planes = Planes(np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32), sure)
    wanted = plain(level)
    rows, columns = np.nonzero(wanted)
    corners = _surest(sure, found.confidence)
    triangle, simplices = _triangles(corners, rows, columns, wanted.shape)
    if len(simplices) == 0:
        return planes
    points = _rays(level.camera, corners) * found.depth[corners[:, 0], corners[:, 1], None]
    a, b, c = (points[simplices[:, k]] for k in range(3))
    normal, offset, flat = _planes_of(a, b, c)
    short = _longest_edge(corners[simplices].astype(np.float64)) <= LONGEST_PX
    met = (triangle >= 0) & (flat & short)[triangle]
    rows, columns, triangle = rows[met], columns[met], triangle[met]
    rays = _rays(level.camera, np.stack([rows, columns], 1))
    depth = -offset[triangle] / (normal[triangle] * rays).sum(1)
    z = points[simplices[triangle], 2]
    grey = (level.quads & 255).astype(np.int64)
    theirs = grey[corners[:, 0], corners[:, 1]][simplices[triangle]]
    alike = np.abs(theirs - grey[rows, columns, None]).max(1) <= ALIKE
    inside = alike & (depth >= z.min(1)) & (depth <= z.max(1))
    rows, columns, triangle = rows[inside], columns[inside], triangle[inside]
    planes.depth[rows, columns] = depth[inside]
    planes.normal[rows, columns] = normal[triangle]
    return planes


def plain(level: Level) -> BoolArray:
    """[H, W] pixels of a photo's mask whose patch has little texture."""
    from scipy.ndimage import uniform_filter

    mask = np.ones(level.quads.shape, bool) if level.mask is None else level.mask > 0
    result = np.zeros_like(mask)
    if not mask.any():
        return result
    low, high = ([int(end(each)) for each in np.nonzero(mask)] for end in (np.min, np.max))
    box = tuple(slice(max(0, a - WINDOW), b + WINDOW) for a, b in zip(low, high, strict=True))
    grey = (level.quads[box] & 255).astype(np.float64)
    mean = uniform_filter(grey, WINDOW, mode="nearest")
    result[box] = uniform_filter(grey**2, WINDOW, mode="nearest") - mean**2 < PLAIN_VARIANCE
    return result & mask


def _surest(sure: BoolArray, confidence: Float32Array) -> IntArray:
    """[N, 2] row and column of the sure pixel of most confidence in each cell that has one."""
    rows, columns = np.nonzero(sure)
    cell = rows // CELL * (sure.shape[1] // CELL + 1) + columns // CELL
    order = np.lexsort((-confidence[rows, columns], cell))
    first = np.diff(cell[order], prepend=-1) > 0
    return np.stack([rows[order[first]], columns[order[first]]], 1)


def _triangles(
    corners: IntArray, rows: IntArray, columns: IntArray, shape: tuple[int, ...]
) -> tuple[IntArray, IntArray]:
    """Which triangle between corners [N, 2] each pixel lies in, -1 for none, looked up for each 2 x 2 pixels; and the
    triangles' corners [T, 3], none where the corners do not span any."""
    from scipy.spatial import Delaunay, QhullError

    none = np.zeros((0, 3), np.int64)
    if len(corners) < 4:
        return np.full(len(rows), -1), none
    try:
        mesh = Delaunay(corners.astype(np.float64))
    except QhullError:  # all in a line
        return np.full(len(rows), -1), none
    coarse = np.zeros(((shape[0] + 1) // 2, (shape[1] + 1) // 2), bool)
    coarse[rows // 2, columns // 2] = True
    found = np.full(coarse.shape, -1, np.int64)
    found[coarse] = mesh.find_simplex(np.argwhere(coarse) * 2.0 + 0.5)
    return found[rows // 2, columns // 2], mesh.simplices.astype(np.int64)


def _planes_of(a: FloatArray, b: FloatArray, c: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Normals [T, 3] towards the camera, offsets [T] with n . X + d = 0, and whether a photo could see the triangle."""
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    middle = (a + b + c) / 3.0
    cosine = (normal * middle).sum(1) / np.maximum(np.linalg.norm(middle, axis=1), 1e-20)
    normal = np.where(cosine[:, None] > 0, -normal, normal)
    return normal, -(normal * a).sum(1), np.abs(cosine) >= LEAST_COSINE


def _longest_edge(corners: FloatArray) -> FloatArray:
    """[T] of triangles [T, 3, 2]."""
    return np.asarray(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1))


def _rays(camera: Camera, pixels: IntArray) -> FloatArray:
    """[N, 3] directions through the centres of pixels [N, 2] (row, column), their z component 1."""
    x = (pixels[:, 1] + 0.5 - camera.cx) / camera.fx
    y = (pixels[:, 0] + 0.5 - camera.cy) / camera.fy
    return np.stack([x, y, np.ones(len(pixels))], 1)
