"""Rays against a triangle mesh: hits, visibility, exact distances, and unlit pictures of a textured mesh.

Wraps Open3D's RaycastingScene (Embree, float32). The mesh is moved and scaled into a unit box first, so that a
capture far from its origin, or measured in millimetres, keeps full precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Camera, pixel_rays
from models.mesh.mesh import Mesh

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CHUNK = 1 << 20
"""Rays or points a call: bounds the memory of large queries."""
PLAIN_GREY = 0.7
"""sRGB value of a mesh that has neither texture nor colours."""


@dataclass(frozen=True)
class Hits:
    """The first surface on each ray."""

    t: Float32Array
    """[N] distance in lengths of rays_d; inf where the ray missed."""
    face: IntArray
    """[N] index of the face; -1 where the ray missed."""
    bary: Float32Array
    """[N, 2] (a, b): the point is (1 - a - b) v0 + a v1 + b v2."""
    normal: Float32Array
    """[N, 3] unit normal of the face as its winding has it, zero where the ray missed."""


class RayCaster:
    """A mesh prepared for ray and distance queries.

    Args:
        mesh: any triangle mesh; one without faces is missed by every ray and infinitely far away.
        threads: CPU threads of each query; 0 takes all.
    """

    def __init__(self, mesh: Mesh, threads: int = 0) -> None:
        self._threads = threads
        self._normals = face_normals(mesh)
        self._centre: FloatArray = np.zeros(3)
        self._scale = 1.0
        self._scene: Any = None
        if len(mesh.faces) == 0:
            return
        import open3d

        used = mesh.vertices[np.unique(mesh.faces)]
        low, high = used.min(0), used.max(0)
        self._centre, self._scale = (low + high) / 2.0, max(float(np.linalg.norm(high - low)) / 2.0, 1e-300)
        self._scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(_tensor(self._local(mesh.vertices)), _tensor(mesh.faces.astype(np.uint32)))

    def _local(self, points: npt.ArrayLike) -> Float32Array:
        return ((np.asarray(points, dtype=np.float64) - self._centre) / self._scale).astype(np.float32)

    def cast(self, rays_o: npt.ArrayLike, rays_d: npt.ArrayLike) -> Hits:
        """The first hit of each ray, from either side of a face.

        Args:
            rays_o: [N, 3] origins in the mesh's frame.
            rays_d: [N, 3] directions; their length is the unit of `Hits.t`.
        """
        o, d = np.asarray(rays_o, dtype=np.float64), np.asarray(rays_d, dtype=np.float64)
        n = len(o)
        t = np.full(n, np.inf, np.float32)
        face = np.full(n, -1, np.int64)
        bary = np.zeros((n, 2), np.float32)
        normal = np.zeros((n, 3), np.float32)
        if self._scene is None:
            return Hits(t, face, bary, normal)
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            rays = np.concatenate([self._local(o[part]), d[part].astype(np.float32)], 1)
            found = self._scene.cast_rays(_tensor(rays), nthreads=self._threads)
            t[part] = found["t_hit"].numpy() * self._scale
            hit = np.isfinite(t[part])
            face[part][hit] = found["primitive_ids"].numpy()[hit]
            bary[part][hit] = found["primitive_uvs"].numpy()[hit]
            normal[part][hit] = self._normals[face[part][hit]]
        return Hits(t, face, bary, normal)

    def visible(self, points: npt.ArrayLike, eye: npt.ArrayLike, tolerance: float) -> BoolArray:
        """Whether each point [N, 3] is seen from `eye` [3]: nothing lies more than `tolerance` (world) before it."""
        x, o = np.asarray(points, dtype=np.float64), np.asarray(eye, dtype=np.float64)
        distance = np.linalg.norm(x - o, axis=1)
        rays_d = (x - o) / np.maximum(distance, 1e-300)[:, None]
        seen: BoolArray = self.cast(np.broadcast_to(o, x.shape), rays_d).t >= distance - tolerance
        return seen

    def crossings(self, segments: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """Every face that each segment [N, 2, 3] passes through, in single precision: segment [H] and face [H]."""
        ends = np.asarray(segments, dtype=np.float64)
        found: list[tuple[IntArray, IntArray]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for start in range(0, len(ends) if self._scene is not None else 0, CHUNK // 4):
            part = ends[start : start + CHUNK // 4]
            local = self._local(part)
            rays = np.concatenate([local[:, 0], local[:, 1] - local[:, 0]], 1)
            hits = self._scene.list_intersections(_tensor(rays), nthreads=self._threads)
            t = hits["t_hit"].numpy()
            # rounding may move a hit at the very end of a segment past it
            inside = (t >= -1e-3) & (t <= 1.0 + 1e-3)
            segment = hits["ray_ids"].numpy()[inside].astype(np.int64) + start
            found.append((segment, hits["primitive_ids"].numpy()[inside].astype(np.int64)))
        return np.concatenate([s for s, _ in found]), np.concatenate([f for _, f in found])

    def occluded(self, rays_o: npt.ArrayLike, rays_d: npt.ArrayLike, reach: float = float("inf")) -> BoolArray:
        """Whether each ray (origins [N, 3], directions [N, 3]) meets anything: cheaper than the first hit.

        Args:
            reach: in lengths of rays_d; what lies beyond does not count.
        """
        o, d = np.asarray(rays_o), np.asarray(rays_d)
        result = np.zeros(len(o), bool)
        if self._scene is None:
            return result
        for start in range(0, len(o), CHUNK):
            part = slice(start, start + CHUNK)
            rays = np.concatenate([self._local(o[part]), d[part].astype(np.float32)], 1)
            found = self._scene.test_occlusions(_tensor(rays), tfar=reach / self._scale, nthreads=self._threads)
            result[part] = found.numpy()
        return result

    def distance(self, points: npt.ArrayLike) -> FloatArray:
        """[N] exact unsigned distance from each point [N, 3] to the nearest point of any face; inf without faces."""
        x = np.asarray(points, dtype=np.float64)
        result = np.full(len(x), np.inf)
        if self._scene is None:
            return result
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            query = _tensor(self._local(x[part]))
            result[part] = self._scene.compute_distance(query, nthreads=self._threads).numpy()
        return result * self._scale

    def closest(self, points: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
        """The nearest place of the surface: exact unsigned distance [N] (inf without faces) and its face [N] (-1)."""
        x = np.asarray(points, dtype=np.float64)
        distance, face = np.full(len(x), np.inf), np.full(len(x), -1, np.int64)
        if self._scene is None:
            return distance, face
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            local = self._local(x[part])
            found = self._scene.compute_closest_points(_tensor(local), nthreads=self._threads)
            distance[part] = np.linalg.norm(found["points"].numpy() - local, axis=1) * self._scale
            face[part] = found["primitive_ids"].numpy()
        return distance, face

    def nearest(self, points: npt.ArrayLike) -> tuple[IntArray, Float32Array]:
        """The nearest place of the surface as `Hits` names places: face [N] (-1 without faces) and bary [N, 2]."""
        x = np.asarray(points, dtype=np.float64)
        face, bary = np.full(len(x), -1, np.int64), np.zeros((len(x), 2), np.float32)
        if self._scene is None:
            return face, bary
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            found = self._scene.compute_closest_points(_tensor(self._local(x[part])), nthreads=self._threads)
            face[part] = found["primitive_ids"].numpy()
            bary[part] = found["primitive_uvs"].numpy()
        return face, bary

    def normals(self, face: npt.ArrayLike) -> Float32Array:
        """[N, 3] unit normals of faces [N], as their winding has them."""
        return self._normals[np.asarray(face, dtype=np.int64)]


def _tensor(array: npt.NDArray[Any]) -> Any:
    import open3d

    return open3d.core.Tensor.from_numpy(np.ascontiguousarray(array))


def face_normals(mesh: Mesh) -> Float32Array:
    """[F, 3] unit normals, zero for faces without area."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    return np.asarray(np.divide(cross, length, out=np.zeros_like(cross), where=length > 0), dtype=np.float32)


def sample_texture(mesh: Mesh, face: npt.ArrayLike, bary: npt.ArrayLike) -> Float32Array:
    """Colours on the surface: [N, 3] sRGB in [0, 1].

    The texture bilinearly (texel centres at +0.5, clamped at the border) where the mesh has one, else its vertex
    colours, else plain grey.

    Args:
        face: [N] indices of faces, none negative.
        bary: [N, 2] as in `Hits.bary`.
    """
    corners = mesh.faces[np.asarray(face, dtype=np.int64)]
    ab = np.asarray(bary, dtype=np.float64)
    weights = np.stack([1.0 - ab[:, 0] - ab[:, 1], ab[:, 0], ab[:, 1]], 1)
    if mesh.uv is not None and mesh.texture is not None:
        return _bilinear(mesh.texture, np.einsum("nk,nkc->nc", weights, mesh.uv[corners]))
    if mesh.colors is not None:
        return np.asarray(np.einsum("nk,nkc->nc", weights, mesh.colors[corners] / 255.0), dtype=np.float32)
    return np.full((len(corners), 3), PLAIN_GREY, np.float32)


def _bilinear(texture: npt.NDArray[np.uint8], uv: FloatArray) -> Float32Array:
    height, width = texture.shape[:2]
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip((1.0 - uv[:, 1]) * height - 0.5, 0, height - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    upper = texture[top, left] * (1 - fx) + texture[top, right] * fx
    lower = texture[bottom, left] * (1 - fx) + texture[bottom, right] * fx
    return np.asarray((upper * (1 - fy) + lower * fy) / 255.0, dtype=np.float32)


@dataclass(frozen=True)
class Render:
    """An unlit picture of a mesh and what lies behind its pixels."""

    rgb: Float32Array
    """[H, W, 3] sRGB in [0, 1], averaged over the pixel's samples."""
    depth: Float32Array
    """[H, W] along the camera's z at the pixel's centre; inf beside the mesh."""
    mask: BoolArray
    """[H, W] whether the pixel's centre sees the mesh."""
    normal: Float32Array
    """[H, W, 3] unit normal in the world at the pixel's centre; zero beside the mesh."""


def cast_mask(caster: RayCaster, camera: Camera, c2w: npt.ArrayLike) -> BoolArray:
    """[H, W] pixels whose centre sees the mesh."""
    hit = caster.cast(*pixel_rays(camera, c2w)).face >= 0
    return np.asarray(hit.reshape(camera.height, camera.width))


def render_textured(
    mesh: Mesh | tuple[Mesh, RayCaster],
    camera: Camera,
    c2w: npt.ArrayLike,
    background: tuple[float, float, float] | None = None,
    supersample: int = 1,
) -> Render:
    """Draw a mesh with its own colours, unlit.

    Args:
        mesh: the mesh, or (mesh, its RayCaster) to draw many views without preparing it again.
        c2w: [4, 4] camera to world.
        background: sRGB in [0, 1] beside the mesh; black if None.
        supersample: samples along each side of a pixel for `rgb`; depth, mask and normal are the centre's.
    """
    surface, caster = mesh if isinstance(mesh, tuple) else (mesh, RayCaster(mesh))
    h, w, n = camera.height, camera.width, max(1, supersample)
    behind = np.asarray(background if background is not None else (0.0, 0.0, 0.0), dtype=np.float32)
    rays_o, rays_d = pixel_rays(camera, c2w)
    hits = caster.cast(rays_o, rays_d)
    mask = hits.face >= 0
    forward = np.asarray(c2w, dtype=np.float64)[:3, 2]
    depth = (hits.t * (rays_d @ forward)).astype(np.float32)
    if n == 1:
        rgb = _colours(surface, hits, behind)
    else:
        fine = camera.resized(w * n, h * n)
        rows = max(1, CHUNK // (w * n * n))
        parts = []
        for top in range(0, h, rows):
            count = min(rows, h - top)
            v, u = np.mgrid[top * n : (top + count) * n, 0 : w * n]
            o, d = pixel_rays(fine, c2w, np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1))
            fine_rgb = _colours(surface, caster.cast(o, d), behind)
            parts.append(fine_rgb.reshape(count, n, w, n, 3).mean((1, 3)).reshape(-1, 3))
        rgb = np.concatenate(parts)
    return Render(rgb.reshape(h, w, 3), depth.reshape(h, w), mask.reshape(h, w), hits.normal.reshape(h, w, 3))


def _colours(mesh: Mesh, hits: Hits, background: Float32Array) -> Float32Array:
    rgb = np.broadcast_to(background, (len(hits.face), 3)).copy()
    hit = hits.face >= 0
    rgb[hit] = sample_texture(mesh, hits.face[hit], hits.bary[hit])
    return rgb
