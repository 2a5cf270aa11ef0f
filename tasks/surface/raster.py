"""Which texels each face covers: the triangles of the texture's atlas, drawn by scanlines without a loop over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import FloatArray, IntArray, Mesh


@dataclass(frozen=True)
class Texels:
    """Texels whose centre a face covers, face by face; each texel at most once."""

    pixel: IntArray
    """[T] row * size + column, row 0 on top."""
    face: npt.NDArray[np.int32]
    """[T] ascending."""
    bary: npt.NDArray[np.float32]
    """[T, 3] weights of the face's corners."""
    start: IntArray
    """[F + 1] first texel of each face."""
    size: int

    def interpolate(self, mesh: Mesh, values: FloatArray, part: IntArray | slice) -> FloatArray:
        """[N, K] values [V, K] of the mesh's vertices at some texels."""
        found: FloatArray = np.einsum("nk,nkc->nc", self.bary[part], values[mesh.faces[self.face[part]]])
        return found

    def positions(self, mesh: Mesh, part: IntArray | slice) -> FloatArray:
        """[N, 3] points on the surface at some texels."""
        corners = mesh.vertices[mesh.faces[self.face[part]]]
        points: FloatArray = np.einsum("nk,nkc->nc", self.bary[part], corners)
        return points


def ranges(start: IntArray, count: IntArray) -> IntArray:
    """The integers start[0] .. start[0] + count[0] - 1, start[1] .. , one after the other."""
    total = int(count.sum())
    offset = np.repeat(start - np.concatenate([[0], np.cumsum(count)[:-1]]), count)
    result: IntArray = offset + np.arange(total)
    return result


def rasterize(corner_uv: FloatArray, size: int) -> Texels:
    """Texels of a square texture whose centres lie in the triangles [F, 3, 2] (uv, origin at the lower left)."""
    x, y = corner_uv[..., 0] * size, (1.0 - corner_uv[..., 1]) * size
    top, bottom = (np.ceil(y.min(1) - 0.5).astype(np.int64), np.floor(y.max(1) - 0.5).astype(np.int64))
    top, bottom = np.maximum(top, 0), np.minimum(bottom, size - 1)
    rows = np.maximum(bottom - top + 1, 0)
    owner = np.repeat(np.arange(len(x)), rows)
    row = ranges(top, rows)
    left, right = _spans(x[owner], y[owner], row.astype(np.float64) + 0.5)
    first = np.maximum(np.ceil(left - 0.5), 0)
    last = np.minimum(np.floor(right - 0.5), size - 1)
    count = np.where(last >= first, last - first + 1, 0).astype(np.int64)
    column = ranges(np.where(count > 0, first, 0).astype(np.int64), count)
    face, line = np.repeat(owner, count), np.repeat(row, count)
    # a centre on a shared edge belongs to the first of the two faces
    pixel, single = np.unique(line * size + column, return_index=True)
    order = np.argsort(face[single], kind="stable")
    pixel, face = pixel[order], face[single][order]
    bary = _barycentric(x, y, face, pixel % size + 0.5, pixel // size + 0.5)
    start = np.searchsorted(face, np.arange(len(x) + 1))
    return Texels(pixel, face.astype(np.int32), bary, start.astype(np.int64), size)


def _spans(x: FloatArray, y: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Left and right end [N] of the horizontal line `at` [N] inside triangles with corners x, y [N, 3]."""
    left, right = np.full(len(at), np.inf), np.full(len(at), -np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        rise = y[:, j] - y[:, i]
        t = np.divide(at - y[:, i], rise, out=np.full(len(at), -1.0), where=rise != 0)
        cross = np.where((t >= 0) & (t <= 1), x[:, i] + t * (x[:, j] - x[:, i]), np.nan)
        left, right = np.fmin(left, cross), np.fmax(right, cross)
    return left, right


def _barycentric(
    x: FloatArray, y: FloatArray, face: IntArray, px: FloatArray, py: FloatArray
) -> npt.NDArray[np.float32]:
    x0, y0 = x[face, 0], y[face, 0]
    ax, ay, bx, by = x[face, 1] - x0, y[face, 1] - y0, x[face, 2] - x0, y[face, 2] - y0
    double = ax * by - ay * bx
    double = np.where(np.abs(double) < 1e-12, 1e-12, double)
    u = ((px - x0) * by - (py - y0) * bx) / double
    v = (ax * (py - y0) - ay * (px - x0)) / double
    bary = np.clip(np.stack([1.0 - u - v, u, v], 1), 0.0, 1.0)
    normed: npt.NDArray[np.float32] = (bary / bary.sum(1, keepdims=True)).astype(np.float32)
    return normed
