"""The region of interest from masks: what lies inside the object's outline in every photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.camera import Camera, FloatArray, project

_CELLS = 56
_RIM = 0.05
_AGREE = 0.9

Mask = npt.NDArray[np.bool_]


def outlines_object(masks: Sequence[Mask]) -> bool:
    """Whether masks [H, W] outline an object in the middle, rather than cut something small out of whole photos."""
    outside = []
    for mask in masks:
        h, w = mask.shape
        y, x = max(1, int(_RIM * h)), max(1, int(_RIM * w))
        rim = np.ones_like(mask)
        rim[y : h - y, x : w - x] = False
        outside.append(1.0 - mask[rim].mean())
    return bool(outside) and float(np.median(outside)) > 0.5


def inside_masks(masks: Sequence[Mask], cameras: Sequence[Camera], c2w: FloatArray, points: FloatArray) -> Mask:
    """[P] whether each point falls inside the masks of nearly all photos that have it in frame.

    Args:
        masks: one [H, W] a camera, of that camera's size.
        points: [P, 3] in the world.
    """
    framed, agreed = np.zeros(len(points)), np.zeros(len(points))
    for mask, camera, matrix in zip(masks, cameras, c2w, strict=True):
        uv, depth = project(camera, matrix, points)
        ok = (depth > 0) & (uv >= 0).all(1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
        pixel = uv[ok].astype(np.int64)
        framed += ok
        agreed[np.flatnonzero(ok)] += mask[pixel[:, 1], pixel[:, 0]]
    return np.asarray((framed >= 0.5 * len(cameras)) & (agreed >= _AGREE * framed) & (framed >= 2))


def hull_bounds(
    masks: Sequence[Mask],
    cameras: Sequence[Camera],
    c2w: FloatArray,
    target: FloatArray,
    reach: float,
    level: FloatArray,
    check: Callable[[], None],
) -> tuple[FloatArray, FloatArray] | None:
    """Box [3], [3] of the visual hull (Laurentini 1994) in the level frame; None when there is no closed hull.

    Carved twice: coarsely over the cube of half edge `reach` around `target`, then finely over what was left.
    """
    low, high = target @ level.T - reach, target @ level.T + reach
    start = (low, high)
    for _ in range(2):
        check()
        steps = [np.linspace(a, b, _CELLS) for a, b in zip(low, high, strict=True)]
        grid = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
        kept = grid[inside_masks(masks, cameras, c2w, grid @ level)]
        if len(kept) < 8:
            return None
        cell = (high - low) / (_CELLS - 1)
        low, high = kept.min(0) - cell, kept.max(0) + cell
    closed = (low > start[0]).all() and (high < start[1]).all()
    return (low, high) if closed else None
