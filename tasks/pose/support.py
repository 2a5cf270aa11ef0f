"""The plane that the object stands on (table, mat), from the sparse points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.camera import FloatArray

_TRIALS = 1500
_SCORED = 3000
_TOLERANCE = 0.008
_MAX_TILT_DEG = 30.0
_MIN_POINTS = 25
_MIN_SHARE = 0.08
_BELOW_PENALTY = 2.5
_MAX_BELOW = 0.2


@dataclass(frozen=True)
class SupportPlane:
    """Points x with normal . x + offset = 0; the normal points at the object's side."""

    normal: FloatArray
    offset: float
    tolerance: float
    """Distance in world units up to which a point counts as lying in the plane."""
    share: float
    """Share of the points considered that lie in the plane."""

    def height(self, points: FloatArray) -> FloatArray:
        """[N] signed heights of [N, 3] points above the plane."""
        return np.asarray(points @ self.normal + self.offset)


def find_support(
    points: FloatArray, weights: FloatArray, centres: FloatArray, target: FloatArray, up: FloatArray, seed: int = 0
) -> SupportPlane | None:
    """The support plane, or None when there is none.

    RANSAC (Fischler and Bolles 1981) over level planes. A plane wins by the weight of its points less that of
    the points below it: nothing is seen through a table, while the flat top of an object has the object below.

    Args:
        points: [P, 3] sparse points.
        weights: [P] how much each counts.
        centres: [N, 3] camera centres; most of them lie above a support.
        target: [3] what the cameras look at.
        up: [3] unit vector, near the plane's normal.
    """
    reach = float(np.median(np.linalg.norm(centres - target, axis=1)))
    near = np.linalg.norm(points - target, axis=1) < 0.8 * reach
    x, w = points[near], weights[near]
    if len(x) < _MIN_POINTS or w.sum() <= 0:
        return None
    rng = np.random.default_rng(seed)
    tolerance = _TOLERANCE * reach
    found = _best_hypothesis(x, w / w.sum(), up, tolerance, rng)
    if found is None:
        return None
    normal, offset = found
    for _ in range(4):
        inside = np.abs(x @ normal + offset) < tolerance
        if inside.sum() < _MIN_POINTS:
            return None
        normal, offset = _fit(x[inside], up)
    plane = SupportPlane(normal, offset, tolerance, float(w[np.abs(x @ normal + offset) < tolerance].sum() / w.sum()))
    return plane if _holds(plane, x, w, centres, up) else None


def _best_hypothesis(
    x: FloatArray, w: FloatArray, up: FloatArray, tolerance: float, rng: np.random.Generator
) -> tuple[FloatArray, float] | None:
    triples = rng.choice(len(x), size=(_TRIALS, 3), p=w)
    a, b, c = (x[triples[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    # triples of near neighbours say little about the tilt
    wide = length > 100.0 * tolerance**2
    normals = normals / np.maximum(length, 1e-300)[:, None]
    normals *= np.where(normals @ up < 0.0, -1.0, 1.0)[:, None]
    keep = wide & (normals @ up > np.cos(np.radians(_MAX_TILT_DEG)))
    if not keep.any():
        return None
    normals, offsets = normals[keep], -np.einsum("ij,ij->i", normals[keep], a[keep])
    sample = np.arange(len(x)) if len(x) <= _SCORED else rng.permutation(len(x))[:_SCORED]
    heights = x[sample] @ normals.T + offsets
    weight = w[sample][:, None]
    inside, below = np.abs(heights) < tolerance, heights < -3.0 * tolerance
    score = (weight * inside).sum(0) - _BELOW_PENALTY * (weight * below).sum(0)
    top = int(score.argmax())
    return (normals[top], float(offsets[top])) if score[top] > 0 else None


def _fit(x: FloatArray, up: FloatArray) -> tuple[FloatArray, float]:
    middle = x.mean(0)
    normal = np.linalg.svd(x - middle, full_matrices=False)[2][2]
    normal = normal * (1.0 if normal @ up >= 0 else -1.0)
    return normal, float(-normal @ middle)


def _holds(plane: SupportPlane, x: FloatArray, w: FloatArray, centres: FloatArray, up: FloatArray) -> bool:
    height = plane.height(x)
    above = w[height > 3.0 * plane.tolerance].sum()
    below = w[height < -3.0 * plane.tolerance].sum()
    return bool(
        plane.share >= _MIN_SHARE
        and plane.normal @ up > np.cos(np.radians(_MAX_TILT_DEG))
        and below <= _MAX_BELOW * max(above, 1e-300)
        and (plane.height(centres) > 0.0).mean() >= 0.8
    )
