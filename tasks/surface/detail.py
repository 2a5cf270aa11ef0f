"""What a tier's faces leave out, kept in its maps: normals and occlusion of the full mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import ByteArray, FloatArray, Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import vertex_normals
from tasks.surface.correspond import interpolate, match
from tasks.surface.gutter import dilate
from tasks.surface.raster import Texels
from tasks.surface.unwrap import Atlas

REACH = 0.01
"""Share of the diagonal within which the full mesh is looked for."""
RAYS = 64
"""Directions in which each vertex looks for the sky."""
SKY = 0.3
"""Share of the diagonal beyond which nothing darkens a place."""
CHUNK = 1 << 19


@dataclass(frozen=True)
class Source:
    """The full mesh, prepared."""

    mesh: Mesh
    caster: RayCaster
    normals: FloatArray
    """[V, 3]"""

    @classmethod
    def of(cls, mesh: Mesh, threads: int = 0) -> Source:
        """Of any mesh."""
        return cls(mesh, RayCaster(mesh, threads), vertex_normals(mesh))


def normal_map(
    mesh: Mesh, atlas: Atlas, texels: Texels, source: Source, check: Callable[[], None] = lambda: None
) -> ByteArray:
    """[size, size, 3] normals of the full mesh in the tangent space of `mesh`, whose faces `atlas` lays out.

    The tangent runs along growing u on the face, made perpendicular to the interpolated normal: what viewers derive
    from the texture coordinates where a file holds no tangents.
    """
    smooth = vertex_normals(mesh)
    tangent, mirrored = _tangents(mesh, atlas)
    reach = REACH * mesh.diagonal
    encoded = np.empty((len(texels.pixel), 3), np.uint8)
    for start in range(0, len(texels.pixel), CHUNK):
        check()
        part = slice(start, start + CHUNK)
        n = _unit(texels.interpolate(mesh, smooth, part))
        matches = match(source.mesh, source.caster, texels.positions(mesh, part), n, reach)
        detail = _unit(interpolate(source.mesh, source.normals, matches))
        face = texels.face[part]
        t = tangent[face] - n * np.einsum("ni,ni->n", n, tangent[face])[:, None]
        t = _unit(t)
        b = np.cross(n, t) * mirrored[face][:, None]
        local = np.stack([np.einsum("ni,ni->n", detail, axis) for axis in (t, b, n)], 1)
        # what looks away from the face would be lit from behind
        local[:, 2] = np.maximum(local[:, 2], 0.05)
        encoded[part] = np.floor((_unit(local) + 1.0) * 127.5 + 0.5).astype(np.uint8)
    picture = np.full((texels.size**2, 3), (128, 128, 255), np.uint8)
    picture[texels.pixel] = encoded
    return dilate(picture.reshape(texels.size, texels.size, 3), texels.pixel)


def sky_seen(mesh: Mesh, source: Source, check: Callable[[], None] = lambda: None) -> FloatArray:
    """[V] share of the light from all around (cosine-weighted) that reaches each vertex past the full mesh."""
    normals = vertex_normals(mesh)
    matches = match(source.mesh, source.caster, mesh.vertices, normals, REACH * mesh.diagonal)
    # from the full surface, not from the tier's: what lies above the face would darken it
    lift = np.maximum(matches.offset, 0.0) + 2e-3 * mesh.diagonal
    origin = mesh.vertices + lift[:, None] * normals
    first = np.cross(normals, np.eye(3)[np.argmin(np.abs(normals), axis=1)])
    first = _unit(first)
    second = np.cross(normals, first)
    blocked = np.zeros(len(origin), np.int64)
    for x, y, z in _cosine_directions(RAYS):
        check()
        direction = x * first + y * second + z * normals
        blocked += source.caster.occluded(origin, direction, SKY * mesh.diagonal)
    seen: FloatArray = 1.0 - blocked / RAYS
    return seen


def occlusion_map(mesh: Mesh, texels: Texels, seen: FloatArray) -> ByteArray:
    """[size, size] occlusion map of vertex values `seen` [V]."""
    picture = np.full(texels.size**2, 255, np.uint8)
    for start in range(0, len(texels.pixel), CHUNK):
        part = slice(start, start + CHUNK)
        value = texels.interpolate(mesh, seen[:, None], part)[:, 0]
        picture[texels.pixel[part]] = np.clip(value * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return dilate(picture.reshape(texels.size, texels.size), texels.pixel)


def resized_normals(picture: ByteArray, size: int) -> ByteArray:
    """A normal map at another size, its normals of unit length again."""
    from PIL import Image

    if picture.shape[0] == size:
        return picture
    small = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR), np.float32)
    unit = _unit(small / 127.5 - 1.0)
    return np.floor((unit + 1.0) * 127.5 + 0.5).astype(np.uint8)


def _tangents(mesh: Mesh, atlas: Atlas) -> tuple[FloatArray, FloatArray]:
    """Direction of growing u [F, 3] on each face, and 1 or -1 [F] for charts that lie mirrored in the texture."""
    a, b, c = np.moveaxis(mesh.triangles, 1, 0)
    p, q = atlas.corner_uv[:, 1] - atlas.corner_uv[:, 0], atlas.corner_uv[:, 2] - atlas.corner_uv[:, 0]
    area = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    tangent = (b - a) * q[:, 1:] - (c - a) * p[:, 1:]
    sign = np.where(area < 0, -1.0, 1.0)
    return _unit(tangent * sign[:, None]), sign


def _cosine_directions(count: int) -> FloatArray:
    """[count, 3] directions around +z, as dense as the cosine to it: a spiral over the disc, lifted to the sphere."""
    k = np.arange(count) + 0.5
    radius, angle = np.sqrt(k / count), k * np.pi * (3.0 - np.sqrt(5.0))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return np.stack([x, y, np.sqrt(1.0 - k / count)], 1)


def _unit(vectors: npt.NDArray[np.floating]) -> FloatArray:
    length = np.linalg.norm(vectors, axis=1 if vectors.ndim == 2 else 2, keepdims=True)
    unit: FloatArray = vectors / np.maximum(length, 1e-12)
    return unit
