"""The visual hull (Laurentini 1994) from masks: what lies inside the object's outline in nearly every photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import Camera, FloatArray, project

_CELLS = 56
_RIM = 0.05
AGREE = 0.9
"""Share of the photos that frame a point that must have it inside: masks drawn by hand forget parts."""

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


def inside_masks(
    masks: Sequence[Mask], cameras: Sequence[Camera], c2w: FloatArray, points: FloatArray, agree: float = AGREE
) -> Mask:
    """[P] whether each point falls inside the masks of nearly all photos that frame it, and half of all frame it.

    Args:
        masks: one [H, W] a camera, of that camera's size.
        points: [P, 3] in the world.
        agree: share of the photos that frame a point that must have it inside.
    """
    framed, missed = np.zeros(len(points), np.int32), np.zeros(len(points), np.int32)
    left = np.arange(len(points))
    for mask, camera, matrix in zip(masks, cameras, c2w, strict=True):
        uv, depth = project(camera, matrix, points[left])
        ok = (depth > 0) & (uv >= 0).all(1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
        pixel = uv[ok].astype(np.int64)
        framed[left] += ok
        missed[left[ok]] += ~mask[pixel[:, 1], pixel[:, 0]]
        # a point that already misses too many photos cannot be inside any more
        left = left[missed[left] <= (1.0 - agree) * len(cameras) + 1e-9]
    enough = (framed >= 0.5 * len(cameras)) & (framed >= 2)
    kept = enough & (framed - missed >= agree * framed)
    inside = np.zeros(len(points), bool)
    inside[left] = kept[left]
    return inside


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


@dataclass(frozen=True)
class Hull:
    """The cells on the surface of a visual hull."""

    cells: FloatArray
    """[V, 3] their centres in the world."""
    cell: float
    """Edge of a cell in the world."""

    def silhouette(self, camera: Camera, c2w: FloatArray) -> Mask:
        """[H, W] the pixels that the hull covers: each cell as a square of about its size."""
        from scipy.ndimage import grey_closing, maximum_filter

        picture = np.zeros((camera.height, camera.width), np.uint8)
        uv, depth = project(camera, c2w, self.cells)
        ok = (depth > 0) & (uv >= 0).all(1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
        if not ok.any():
            return picture > 0
        pixel = uv[ok].astype(np.int64)
        picture[pixel[:, 1], pixel[:, 0]] = 1
        size = int(self.cell * camera.fx / float(np.median(depth[ok])))
        solid = maximum_filter(picture, size=max(1, size - 1 + size % 2))
        # squares of whole pixels leave gaps between them, which closing fills without moving the outline
        return np.asarray(grey_closing(solid, size=(3, 3)) > 0)


def carve(
    masks: Sequence[Mask],
    cameras: Sequence[Camera],
    c2w: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
    level: FloatArray,
    cells: int,
    agree: float = AGREE,
) -> Hull | None:
    """The visual hull inside a level box, in cubes; None when nothing is left.

    Args:
        masks: one [H, W] a camera, of that camera's size.
        bounds: corners [3], [3] of the box in the level frame, as `hull_bounds` gives them.
        level: [3, 3] rows of the level frame.
        cells: along the box's longest side.
        agree: as for `inside_masks`.
    """
    from scipy.ndimage import binary_erosion

    low, high = bounds
    cell = float((high - low).max()) / cells
    counts = np.maximum(1, np.ceil((high - low) / cell)).astype(np.int64)
    steps = [a + cell * (np.arange(count) + 0.5) for a, count in zip(low, counts, strict=True)]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3) @ level
    solid = inside_masks(masks, cameras, c2w, grid, agree).reshape(tuple(counts))
    if not solid.any():
        return None
    shell = solid & ~binary_erosion(solid)
    return Hull(grid[shell.ravel()], cell)
