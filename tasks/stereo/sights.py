"""What photos know of free space, and their vote on which voxels are free.

A photo has a voxel outside its mask, sees a measured surface through it, or looks past it at none. The last is as good
as a mask: masks wrongly hold shadowed ground between the parts of an object, which stereo never measures as a surface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.camera import Camera, Matrix4, invert_rigid, pixel_rays, project
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]

FEW, OUTSIDE = 2, 0.1
"""Photos that may have a point outside their masks by mistake: so many, or that share of those that frame it."""
LEAST, THROUGH = 5, 0.5
"""Photos that must look past a point or through it: so many, and that share of those from which no measured surface
hides it."""
MASK_WEIGHT = 3
"""Photos looking past a point that one with the point outside its mask is worth."""
LEAST_TOLERANCE = 1.0
"""Pixels by which every mask may err."""
PINHOLE = 3
"""Pixels: gaps of the measured surface up to twice as wide in a photo are no view past it."""
_CHUNK = 1 << 19


class Surface:
    """A measured surface.

    Args:
        mesh: faces towards the outside, gaps open.
    """

    def __init__(self, mesh: Mesh, threads: int) -> None:
        self.mesh = mesh
        self.cast = RayCaster(mesh, threads).cast


@dataclass(frozen=True)
class Sight:
    """What one photo knows of free space."""

    depth: Float32Array
    """[H, W] of the measured surface along z where the photo sees its front; 0 elsewhere."""
    past: BoolArray
    """[H, W] pixels that may show the object, but whose rays meet no measured surface."""
    outside: BoolArray | None
    """[H, W] pixels beyond the mask and its tolerance that show no measured surface; None for a photo without mask."""
    camera: Camera
    c2w: Matrix4


def make_sight(measured: Surface, mask: BoolArray | None, tolerance_px: float, camera: Camera, c2w: Matrix4) -> Sight:
    """What a photo knows by the measured surface and its mask.

    Args:
        mask: [H, W] of the camera; None for a photo without one, which then never looks past the surface.
        tolerance_px: pixels of the camera by which the mask may err.
    """
    shape = (camera.height, camera.width)
    met, depth = np.zeros(shape, bool), np.zeros(shape, np.float32)
    v, u = np.nonzero(_around(measured, camera, c2w))
    rays_o, rays_d = pixel_rays(camera, c2w, np.stack([u, v], 1) + 0.5)
    hits = measured.cast(rays_o, rays_d)
    met[v, u] = hits.face >= 0
    front = (hits.face >= 0) & ((hits.normal * rays_d).sum(1) < 0)
    depth[v[front], u[front]] = hits.t[front] * (rays_d[front] @ np.array(c2w)[:3, 2])
    if mask is None:
        return Sight(depth, np.zeros(shape, bool), None, camera, c2w)
    # a mask that lacks what was measured is wrong there
    outside = _further(mask, max(tolerance_px, LEAST_TOLERANCE)) & ~met
    return Sight(depth, ~outside & ~_without_pinholes(met), outside, camera, c2w)


def silhouette(surface: Surface, camera: Camera, c2w: Matrix4) -> BoolArray:
    """[H, W] pixels whose rays meet the surface, from either side."""
    return np.asarray(depth_along(surface, camera, c2w) > 0)


def depth_along(surface: Surface, camera: Camera, c2w: Matrix4) -> Float32Array:
    """[H, W] of the surface along z, from either side; 0 where rays miss it."""
    depth = np.zeros((camera.height, camera.width), np.float32)
    v, u = np.nonzero(_around(surface, camera, c2w))
    rays_o, rays_d = pixel_rays(camera, c2w, np.stack([u, v], 1) + 0.5)
    hits = surface.cast(rays_o, rays_d)
    met = hits.face >= 0
    depth[v[met], u[met]] = hits.t[met] * (rays_d[met] @ np.array(c2w)[:3, 2])
    return depth


class Voted(NamedTuple):
    """What photos say of some points."""

    free: BoolArray
    """[N] enough of them know the point to be free."""
    hidden: BoolArray
    """[N] measured surfaces hide it from nearly all."""


def vote(xyz: Float32Array, sights: Iterable[Sight], slack: float, check: Callable[[], None] = lambda: None) -> Voted:
    """What photos say of points [N, 3] of the world.

    Args:
        slack: distance behind a point from which on a surface counts as behind it, in the world.
    """
    counts = np.zeros((4, len(xyz)), np.int16)
    for sight in sights:
        check()
        for start in range(0, len(xyz), _CHUNK):
            part = slice(start, start + _CHUNK)
            counts[:, part] += _votes(sight, xyz[part], slack)
    outside, framed, through, looking = counts
    many = through + (MASK_WEIGHT - 1) * outside >= LEAST
    free = (outside > np.maximum(FEW, OUTSIDE * framed)) | (many & (through >= THROUGH * looking))
    return Voted(np.asarray(free), np.asarray(looking < LEAST))


def _votes(sight: Sight, xyz: Float32Array, slack: float) -> BoolArray:
    """[4, N] of points [N, 3]: outside the mask, framed by a photo with one, looked through or past, and not hidden."""
    camera, w2c = sight.camera, invert_rigid(sight.c2w).astype(np.float32)
    local = xyz @ w2c[:3, :3].T + w2c[:3, 3]
    z = np.maximum(local[:, 2], 1e-9)
    u, v = local[:, 0] / z * camera.fx + camera.cx, local[:, 1] / z * camera.fy + camera.cy
    framed = (local[:, 2] > 0) & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    column, row = np.where(framed, u, 0).astype(np.int32), np.where(framed, v, 0).astype(np.int32)
    depth = sight.depth[row, column]
    looking = framed & ((depth == 0) | (depth > z - slack))
    outside = np.zeros(len(xyz), bool) if sight.outside is None else framed & sight.outside[row, column]
    through = outside | (framed & ((depth > z + slack) | sight.past[row, column]))
    return np.stack([outside, framed & (sight.outside is not None), through, looking])


def _around(measured: Surface, camera: Camera, c2w: Matrix4) -> BoolArray:
    """[H, W] the pixels of the box around the surface's picture; all of them where it reaches behind the camera."""
    result = np.zeros((camera.height, camera.width), bool)
    uv, depth = project(camera, c2w, measured.mesh.vertices)
    low, high = (uv.min(0), uv.max(0)) if len(uv) and depth.min() > 0 else (np.zeros(2), np.array(result.shape[::-1]))
    (left, top), (right, bottom) = np.floor(low).clip(0).astype(int), np.ceil(high).clip(0).astype(int)
    result[top:bottom, left:right] = True
    return result


def _further(mask: BoolArray, distance_px: float) -> BoolArray:
    """The pixels [H, W] further than a distance from all of a mask."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return np.ones_like(mask)
    return np.asarray(distance_transform_edt(~mask) > distance_px)


def _without_pinholes(met: BoolArray) -> BoolArray:
    """The pixels [H, W] where a surface was met, and those in narrow gaps between them."""
    return np.asarray(met | _further(_further(met, PINHOLE), PINHOLE))
