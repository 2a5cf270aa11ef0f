"""Photographs of the sample by ray casting: matt surfaces, soft light, a plain backdrop, a little sensor noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.camera import Camera, pixel_rays
from models.mesh.mesh import Mesh
from models.mesh.raycast import Hits, RayCaster
from tasks.sample import object as shape
from tasks.sample.colour import LINEAR, to_linear
from tasks.sample.face_paint import FacePaint
from tasks.sample.light import irradiance
from tasks.sample.mat import MAT_RADIUS_M, draw_mat, mat_colour
from tasks.sample.noise import Float32Array, FloatArray
from tasks.sample.paint import solid_colour
from tasks.sample.sensor import develop

_FLOOR: FloatArray = np.array([0.50, 0.51, 0.52])
_HORIZON: FloatArray = np.array([0.60, 0.61, 0.63])
_ZENITH: FloatArray = np.array([0.33, 0.35, 0.38])
_SWEEP_M = 1.2
"""How far away the floor has become the backdrop."""
_SHADOW_CELLS = 160
_SHADOW_HALF_M = 0.32
_EXPOSURE = 0.95
_SUPERSAMPLE = 2
_BLOCK = 1 << 16
"""Rays at a time: the temporaries stay in the cache."""


class Studio:
    """The lit and painted object on its mat, ready to be photographed from anywhere above the mat.

    Args:
        cell_m: edge of the cells that the object's surface is built on (see `object.build_mesh`).
        seed: chooses the random part of paint and print.
        detail: colours along each edge of a face; the paint is kept `detail` times finer than the mesh.
        threads: CPU threads; 0 takes all.
    """

    def __init__(self, cell_m: float, seed: int = 0, detail: int = 4, threads: int = 0) -> None:
        bare = shape.build_mesh(cell_m)
        vertex_rgb = solid_colour(bare.vertices, seed)
        self.mesh: Mesh = replace(bare, colors=np.round(vertex_rgb * 255).astype(np.uint8))
        """The true surface with vertex colours (paint alone, without light); the mat is not part of it."""
        self.caster = RayCaster(bare, threads)
        self._paint = FacePaint.bake(bare, seed, detail)
        offset = 0.05 * cell_m
        self._light = irradiance(self.caster, bare.vertices, shape.normals(bare.vertices), offset)
        self._mat = draw_mat(seed)
        self._floor_light = self._bake_floor_light(offset)

    def photograph(self, camera: Camera, c2w: npt.ArrayLike, seed: int = 0) -> npt.NDArray[np.uint8]:
        """[H, W, 3] sRGB picture; `seed` chooses the sensor's noise."""
        n = _SUPERSAMPLE
        fine = camera.resized(camera.width * n, camera.height * n)
        picture = np.empty((camera.height, camera.width, 3), np.float32)
        rows = max(1, _BLOCK // (fine.width * n))
        for top in range(0, camera.height, rows):
            count = min(rows, camera.height - top)
            v, u = np.mgrid[top * n : (top + count) * n, 0 : fine.width]
            rays_o, rays_d = pixel_rays(fine, c2w, np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1))
            linear = self._trace(rays_o, rays_d)
            picture[top : top + count] = linear.reshape(count, n, camera.width, n, 3).mean((1, 3))
        return develop(picture * _EXPOSURE, seed)

    def _trace(self, rays_o: FloatArray, rays_d: FloatArray) -> Float32Array:
        """[N, 3] linear light that comes back along rays."""
        hits = self.caster.cast(rays_o, rays_d)
        linear = np.empty((len(rays_d), 3), np.float32)
        on_object = hits.face >= 0
        linear[on_object] = self._object(hits, on_object)
        linear[~on_object] = self._surroundings(rays_o[~on_object], rays_d[~on_object])
        return linear

    def _object(self, hits: Hits, chosen: npt.NDArray[np.bool_]) -> Float32Array:
        face, bary = hits.face[chosen], hits.bary[chosen]
        corners = self._light[self.mesh.faces[face]]
        light = (
            corners[:, 0] + bary[:, 0] * (corners[:, 1] - corners[:, 0]) + bary[:, 1] * (corners[:, 2] - corners[:, 0])
        )
        return np.asarray(self._paint.lookup(face, bary) * light[:, None], dtype=np.float32)

    def _surroundings(self, rays_o: FloatArray, rays_d: FloatArray) -> Float32Array:
        """Linear light from mat, floor and backdrop along rays that miss the object."""
        up = np.clip(rays_d[:, 2:], 0.0, 1.0)
        linear = to_linear(_HORIZON + (_ZENITH - _HORIZON) * up * up * (3.0 - 2.0 * up)).astype(np.float32)
        down = np.flatnonzero(rays_d[:, 2] < -1e-6)
        t = -rays_o[down, 2] / rays_d[down, 2]
        xy = rays_o[down, :2] + t[:, None] * rays_d[down, :2]
        radius = np.linalg.norm(xy, axis=1)
        far = (1.0 - np.exp(-((radius / _SWEEP_M) ** 2)))[:, None]
        light = self._floor_light_at(xy)
        floor = to_linear(_FLOOR) * light * (1.0 - far) + to_linear(_HORIZON) * far
        on_mat = radius < MAT_RADIUS_M
        floor[on_mat] = LINEAR[mat_colour(self._mat, xy[on_mat])] * light[on_mat]
        linear[down] = floor
        return linear

    def _bake_floor_light(self, offset: float) -> Float32Array:
        """[C, C] light on the plane z = 0 around the object, rows along y."""
        at = (np.arange(_SHADOW_CELLS) + 0.5) / _SHADOW_CELLS * 2 * _SHADOW_HALF_M - _SHADOW_HALF_M
        x, y = np.meshgrid(at, at)
        points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], 1)
        light = irradiance(self.caster, points, np.tile([0.0, 0.0, 1.0], (x.size, 1)), offset)
        return light.reshape(x.shape)

    def _floor_light_at(self, xy: FloatArray) -> FloatArray:
        from scipy.ndimage import map_coordinates

        cell = (xy + _SHADOW_HALF_M) / (2 * _SHADOW_HALF_M) * _SHADOW_CELLS - 0.5
        light = map_coordinates(self._floor_light, [cell[:, 1], cell[:, 0]], order=1, mode="nearest")
        return np.asarray(light)[:, None]
