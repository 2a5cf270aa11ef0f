"""Triangulating flat polygons by ear clipping: no library of the project does it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]


def area(polygon: FloatArray) -> float:
    """Signed area of a closed polygon [N, 2]: positive when it runs counter-clockwise."""
    x, y = polygon.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2.0)


def contains(polygon: FloatArray, point: FloatArray) -> bool:
    """Whether a point [2] lies inside a closed polygon [N, 2] (even-odd rule)."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    straddles = (a[:, 1] > point[1]) != (b[:, 1] > point[1])
    a, b = a[straddles], b[straddles]
    x = a[:, 0] + (point[1] - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
    return bool((x > point[0]).sum() % 2)


def triangulate(polygon: FloatArray) -> IntArray:
    """Triangles [N - 2, 3] of indices that fill a polygon [N, 2] and run as it does (ear clipping).

    Every edge of the polygon is an edge of exactly one triangle, so that a hole filled with them is closed even where
    the polygon touches or crosses itself: where no clean ear is left the sharpest corner is cut.
    """
    points = polygon if area(polygon) >= 0 else polygon * (1.0, -1.0)
    left = list(range(len(points)))
    triangles = []
    at, tries = 0, 0
    while len(left) > 3:
        n = len(left)
        at %= n
        a, b, c = left[at - 1], left[at], left[(at + 1) % n]
        if tries >= n:
            at = _sharpest(points[left])
            a, b, c = left[at - 1], left[at], left[(at + 1) % n]
        elif not _is_ear(points, left, a, b, c):
            at, tries = at + 1, tries + 1
            continue
        triangles.append((a, b, c))
        del left[at]
        # skip one corner: fans of slivers around a single vertex are avoided
        at, tries = at + 1, 0
    triangles.append((left[0], left[1], left[2]))
    return np.array(triangles, np.int64)


def _is_ear(points: FloatArray, left: list[int], a: int, b: int, c: int) -> bool:
    p, q, r = points[a], points[b], points[c]
    if _cross(q - p, r - p) <= 0:
        return False
    others = points[left]
    inside = (_cross(q - p, others - p) >= 0) & (_cross(r - q, others - q) >= 0) & (_cross(p - r, others - r) >= 0)
    # corners at the same place as the ear's own (a bridge to a hole has them) do not block it
    own = (others == p).all(1) | (others == q).all(1) | (others == r).all(1)
    return not bool((inside & ~own).any())


def _sharpest(ring: FloatArray) -> int:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = np.arctan2(_cross(before, after), np.einsum("ni,ni->n", before, after))
    return int(np.argmax(turn))


def _cross(u: FloatArray, v: FloatArray) -> FloatArray:
    result: FloatArray = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    return result


def with_holes(outer: FloatArray, holes: list[FloatArray]) -> list[tuple[int, int]]:
    """One ring that runs around `outer` (counter-clockwise) and through bridges around all holes (clockwise).

    Returns:
        the ring's corners as (polygon, corner); polygon 0 is the outer one, 1 the first hole.
    """
    ring = [(0, i) for i in range(len(outer))]
    polygons = [outer, *holes]
    for number in sorted(range(1, len(polygons)), key=lambda k: -float(polygons[k][:, 0].max())):
        hole = polygons[number]
        start = int(np.argmax(hole[:, 0]))
        points = np.array([polygons[k][i] for k, i in ring])
        at = _bridge(points, hole, start)
        turn = [(number, (start + i) % len(hole)) for i in range(len(hole))]
        ring = [*ring[: at + 1], *turn, turn[0], *ring[at:]]
    return ring


def _bridge(ring: FloatArray, hole: FloatArray, start: int) -> int:
    """The ring's nearest corner that the hole's corner `start` sees."""
    eye = hole[start]
    edges_a = np.concatenate([ring, hole])
    edges_b = np.concatenate([np.roll(ring, -1, axis=0), np.roll(hole, -1, axis=0)])
    order = np.argsort(((ring - eye) ** 2).sum(1), kind="stable")
    for at in order:
        target = ring[at]
        apart = ~((edges_a == target).all(1) | (edges_b == target).all(1))
        apart &= ~((edges_a == eye).all(1) | (edges_b == eye).all(1))
        a, b = edges_a[apart], edges_b[apart]
        crosses = (_cross(target - eye, a - eye) * _cross(target - eye, b - eye) <= 0) & (
            _cross(b - a, eye - a) * _cross(b - a, target - a) <= 0
        )
        if not crosses.any():
            return int(at)
    return int(order[0])
