"""Light that reaches a phone's lens from an object in a furnished room, and the exact silhouette and depth with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import Camera, pixel_rays, project
from models.mesh.mesh import Mesh
from models.mesh.raycast import Hits, RayCaster
from tasks.sample.lens import Lens
from tasks.sample.light import KEY_AT, LIVING_ROOM, irradiance, lamps
from tasks.sample.material import Material
from tasks.sample.noise import Float32Array, FloatArray
from tasks.sample.optics import ClearBody
from tasks.sample.sheets import LitSheets, Sheet, sheet_mesh
from tasks.sample.subject import Subject

_SAMPLES, _CLEAR_SAMPLES = 2, 3
"""Samples along each side of a pixel; more where a mirror or glass shows the room small."""
_BLOCK = 1 << 17
"""Rays at a time: bounds the temporaries."""
_OBJECT_OFFSET_M = 1e-4
_EXPOSURE = 0.85
_WINDOW_AT: FloatArray = np.array([-0.9, -0.1, 0.45])
_SHINE = ((KEY_AT, 0.9, 60.0), (_WINDOW_AT, 0.5, 140.0))
"""(towards the light, strength, exponent) of Phong's lobe, for a glossy object."""


@dataclass(frozen=True)
class Exposure:
    """What a pinhole behind the lens sees, before the sensor."""

    linear: Float32Array
    """[H, W, 3] light, averaged over each pixel's samples."""
    mask: npt.NDArray[np.bool_]
    """[H, W] whether the pixel's centre shows the object, in the photo as taken (with distortion)."""


class PhoneStudio:
    """An object in a room, lit once, ready to be photographed by one camera from many places.

    Args:
        subject: stands on z = 0.
        sheets: the room.
        camera: the pinhole camera of all photos.
        lens: its distortion.
        seed: chooses the random part of the room's pictures.
        glossy: whether the object has highlights that move with the camera; for paint alone.
        threads: CPU threads of each query.
        material: what the object is made of. Mirror and glass show the room and its lamps; glass throws no shadow.
    """

    def __init__(
        self,
        subject: Subject,
        sheets: Sequence[Sheet],
        camera: Camera,
        lens: Lens,
        seed: int = 0,
        glossy: bool = False,
        threads: int = 2,
        material: Material = Material.PAINT,
    ) -> None:
        self.camera, self.lens = camera, lens
        self._subject, self._glossy = subject, glossy
        self._objects = len(subject.mesh.faces)
        self.caster = RayCaster(_joined(subject.mesh, sheet_mesh(sheets)), threads)
        """Object and room in one; faces of the object come first."""
        casting = sheet_mesh([sheet for sheet in sheets if sheet.casts])
        shadows = RayCaster(casting if material is Material.GLASS else _joined(subject.mesh, casting), threads)
        corner_normals = subject.normals[subject.corners].astype(np.float32)
        self._normals = corner_normals if glossy else None
        self._room = LitSheets(sheets, shadows, seed)
        self._clear: ClearBody | None = None
        if material is Material.PAINT:
            light = irradiance(shadows, subject.points, subject.normals, _OBJECT_OFFSET_M, LIVING_ROOM)
            self._light = light[subject.corners]
        else:
            behind = _RoomAlone(sheets, self._room, threads)
            self._clear = ClearBody(subject.mesh, corner_normals, material, behind, threads)
        counts = [len(subject.mesh.faces), *(sheet.faces for sheet in sheets), 1]
        self._thing = np.repeat([*range(len(sheets) + 1), -1], counts).astype(np.int32)
        straight = _straight_pixels(camera, lens)
        self._straight = straight.astype(np.float32)
        step_v, step_u = np.gradient(straight, axis=(0, 1))
        self._step_u, self._step_v = (step.reshape(-1, 2).astype(np.float32) for step in (step_u, step_v))

    def expose(self, c2w: npt.ArrayLike) -> Exposure:
        """Light and silhouette of one photo from the camera pose `c2w` [4, 4].

        Each pixel has one sample at its centre, which is enough for the room's pictures: their texels are about as
        large as a pixel. The object and the edges of all things have a grid of them instead.
        """
        pose = np.asarray(c2w, dtype=np.float64)
        shape = (self.camera.height, self.camera.width)
        straight = self._straight.reshape(-1, 2)
        linear, thing = self._trace(pose, straight)
        needs = _needs_samples(thing.reshape(shape)).ravel()
        clear = needs & (thing == 0) & (self._clear is not None)
        for chosen, samples in ((np.flatnonzero(needs & ~clear), _SAMPLES), (np.flatnonzero(clear), _CLEAR_SAMPLES)):
            linear[chosen] = self._sampled(pose, chosen, samples)
        return Exposure(linear.reshape(*shape, 3) * _EXPOSURE, (thing == 0).reshape(shape))

    def _sampled(self, pose: FloatArray, chosen: npt.NDArray[np.int64], samples: int) -> Float32Array:
        """[K, 3] light of pixels [K], the mean of a grid of `samples` x `samples` rays through each."""
        straight, total = self._straight.reshape(-1, 2)[chosen], np.zeros((len(chosen), 3), np.float32)
        for number in range(samples**2):
            dv, du = ((each + 0.5) / samples - 0.5 for each in divmod(number, samples))
            total += self._trace(pose, straight + du * self._step_u[chosen] + dv * self._step_v[chosen])[0]
        return total / np.float32(samples**2)

    def _trace(self, pose: FloatArray, straight: Float32Array) -> tuple[Float32Array, npt.NDArray[np.int32]]:
        """Light [N, 3] and thing [N] (0 the object, then the sheets, -1 nothing) at image plane places [N, 2]."""
        turn = np.ascontiguousarray(pose[:3, :3].T, dtype=np.float32)
        linear, thing = np.empty((len(straight), 3), np.float32), np.empty(len(straight), np.int32)
        for start in range(0, len(straight), _BLOCK):
            part = slice(start, start + _BLOCK)
            rays_d = np.concatenate([straight[part], np.ones((len(straight[part]), 1), np.float32)], 1) @ turn
            hits = self.caster.cast(np.broadcast_to(pose[:3, 3], rays_d.shape), rays_d)
            linear[part] = self._light_along(hits, pose[:3, 3], rays_d)
            thing[part] = self._thing.take(hits.face)
        return linear, thing

    def depth(self, c2w: npt.ArrayLike) -> Float32Array:
        """[H, W] along the camera's z in metres in the pinhole camera where it sees the object, inf elsewhere."""
        camera, pose = self.camera, np.asarray(c2w, dtype=np.float64)
        depth = np.full((camera.height, camera.width), np.inf, np.float32)
        pixels, before = project(camera, pose, self._subject.mesh.vertices)
        low, high = np.array([0, 0]), np.array([camera.width, camera.height])
        if before.min() > 0:
            low = np.clip(np.floor(pixels.min(0)).astype(int) - 1, 0, high)
            high = np.clip(np.ceil(pixels.max(0)).astype(int) + 1, 0, high)
        v, u = np.mgrid[low[1] : high[1], low[0] : high[0]]
        rays_o, rays_d = pixel_rays(camera, pose, np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1))
        hits = self.caster.cast(rays_o, rays_d)
        along = np.where(self._on_object(hits), hits.t * (rays_d @ pose[:3, 2]), np.inf)
        depth[low[1] : high[1], low[0] : high[0]] = along.reshape(v.shape)
        return depth

    def _on_object(self, hits: Hits) -> npt.NDArray[np.bool_]:
        return np.asarray((hits.face >= 0) & (hits.face < self._objects))

    def _light_along(self, hits: Hits, centre: FloatArray, rays_d: Float32Array) -> Float32Array:
        """[N, 3] light that comes back along rays from the camera's centre [3]."""
        linear = np.zeros((len(rays_d), 3), np.float32)
        on_object = self._on_object(hits)
        chosen = np.flatnonzero(on_object)
        if len(chosen) and self._clear is not None:
            linear[chosen] = self._clear.seen(np.broadcast_to(centre, (len(chosen), 3)), rays_d[chosen])
        elif len(chosen):
            towards = rays_d[chosen] if self._glossy else rays_d[:0]
            linear[chosen] = self._object(hits.face[chosen], hits.bary[chosen], towards)
        others = np.flatnonzero((hits.face >= 0) & ~on_object)
        linear[others] = self._room.lookup(hits.face[others] - self._objects, hits.bary[others])
        return linear

    def _object(self, face: npt.NDArray[np.int64], bary: Float32Array, rays_d: Float32Array) -> Float32Array:
        weights = np.stack([1.0 - bary[:, 0] - bary[:, 1], bary[:, 0], bary[:, 1]], 1)
        light = (self._light[face] * weights).sum(1, keepdims=True)
        linear = self._subject.colour(face, bary) * light
        if self._normals is not None:
            normal = np.einsum("nk,nkc->nc", weights, self._normals[face])
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
            linear = linear + _highlight(normal, rays_d) * np.minimum(light, 1.0)
        return np.asarray(linear, dtype=np.float32)


class _RoomAlone:
    """The room without the object, as mirror and glass show it: its sheets, and the lamps that light it."""

    def __init__(self, sheets: Sequence[Sheet], lit: LitSheets, threads: int) -> None:
        self._caster, self._lit = RayCaster(sheet_mesh(sheets), threads), lit
        self._open = np.repeat([*(not sheet.casts for sheet in sheets), True], [*(s.faces for s in sheets), 1])

    def __call__(self, rays_o: FloatArray, rays_d: FloatArray) -> Float32Array:
        """[N, 3] linear light along unit rays [N, 3]; lamps hang before what throws no shadow."""
        hits = self._caster.cast(rays_o, rays_d)
        linear = np.zeros((len(rays_d), 3), np.float32)
        met = np.flatnonzero(hits.face >= 0)
        linear[met] = self._lit.lookup(hits.face[met], hits.bary[met])
        free = self._open.take(hits.face)
        linear[free] += lamps(rays_d[free], LIVING_ROOM)[:, None]
        return linear


def _straight_pixels(camera: Camera, lens: Lens) -> FloatArray:
    """[H, W, 2] where on the image plane at z = 1 the centres of the photo's pixels look."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    pixels = np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1)
    return lens.straight(camera, pixels).reshape(camera.height, camera.width, 2)


def _needs_samples(thing: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """[H, W] the object's pixels, and the pixels on both sides of every edge between things [H, W]."""
    needs = thing == 0
    across, down = thing[:, 1:] != thing[:, :-1], thing[1:] != thing[:-1]
    needs[:, 1:] |= across
    needs[:, :-1] |= across
    needs[1:] |= down
    needs[:-1] |= down
    return np.asarray(needs)


def _highlight(normal: Float32Array, rays_d: Float32Array) -> Float32Array:
    """[N, 1] Phong's lobe around the mirrored ray, for every light."""
    rays_d = rays_d / np.linalg.norm(rays_d, axis=1, keepdims=True)
    mirrored = rays_d - 2.0 * (rays_d * normal).sum(1, keepdims=True) * normal
    total = np.zeros((len(normal), 1), np.float32)
    for towards, strength, exponent in _SHINE:
        direction = (towards / np.linalg.norm(towards)).astype(np.float32)
        total += strength * np.clip(mirrored @ direction, 0.0, 1.0)[:, None] ** exponent
    return total


def _joined(first: Mesh, second: Mesh) -> Mesh:
    """Both surfaces as one mesh without colours; faces of the first come first."""
    vertices = np.concatenate([first.vertices, second.vertices])
    return Mesh(vertices, np.concatenate([first.faces, second.faces + len(first.vertices)]))
