"""Which place of another mesh a place on this one stands for: the full mesh behind a tier's face, and the like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import FloatArray, IntArray, Mesh
from models.mesh.raycast import RayCaster

AGREE = 0.2
"""Cosine between both normals below which a hit belongs to another sheet."""


@dataclass(frozen=True)
class Matches:
    """Places on the other mesh."""

    face: IntArray
    """[N]"""
    bary: npt.NDArray[np.float32]
    """[N, 2] as `Hits.bary`."""
    offset: FloatArray
    """[N] signed distance along the normal; 0 where the nearest place was taken."""


def match(mesh: Mesh, caster: RayCaster, points: FloatArray, normals: FloatArray, reach: float) -> Matches:
    """For points [N, 3] with unit normals [N, 3]: the nearest place of `mesh` along the normal, before or behind.

    Where none lies within `reach` whose normal agrees, the nearest place of all.

    Args:
        caster: of `mesh`.
    """
    face = np.full(len(points), -1, np.int64)
    bary = np.zeros((len(points), 2), np.float32)
    offset = np.full(len(points), np.inf)
    skip = 1e-5 * mesh.diagonal
    for sign in (1.0, -1.0):
        hits = caster.cast(points - sign * skip * normals, sign * normals)
        distance = np.abs(hits.t.astype(np.float64) - skip)
        agrees = np.einsum("ni,ni->n", hits.normal, normals) > AGREE
        better = (hits.face >= 0) & agrees & (distance < np.minimum(np.abs(offset), reach))
        face[better], bary[better] = hits.face[better], hits.bary[better]
        offset[better] = sign * (hits.t[better] - skip)
    left = np.nonzero(face < 0)[0]
    if len(left):
        _, nearest = caster.closest(points[left])
        face[left], bary[left] = nearest, barycentric(mesh, nearest, points[left])
    return Matches(face, bary, np.where(np.isfinite(offset), offset, 0.0))


def barycentric(mesh: Mesh, face: IntArray, points: FloatArray) -> npt.NDArray[np.float32]:
    """[N, 2] weights of the second and third corner at the places of faces [N] nearest to points [N, 3]: clamped."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces[face]], 1, 0)
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (np.einsum("ni,ni->n", p, q) for p, q in ((u, u), (u, v), (v, v)))
    wu, wv = np.einsum("ni,ni->n", w, u), np.einsum("ni,ni->n", w, v)
    determinant = np.maximum(uu * vv - uv * uv, 1e-300)
    weights = np.clip(np.stack([(vv * wu - uv * wv) / determinant, (uu * wv - uv * wu) / determinant], 1), 0.0, 1.0)
    total = weights.sum(1, keepdims=True)
    return np.asarray(np.where(total > 1.0, weights / np.maximum(total, 1e-300), weights), dtype=np.float32)


def interpolate(mesh: Mesh, values: FloatArray, matches: Matches) -> FloatArray:
    """[N, K] values [V, K] of the other mesh's vertices at the matches."""
    corner = values[mesh.faces[matches.face]]
    a, b = matches.bary[:, :1].astype(np.float64), matches.bary[:, 1:].astype(np.float64)
    found: FloatArray = (1.0 - a - b) * corner[:, 0] + a * corner[:, 1] + b * corner[:, 2]
    return found
