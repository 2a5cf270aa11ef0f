"""Squares of flat colour that stand in a grid, seen in perspective: where a colour chart may be.

A patch is a connected region of flat colour that fills a parallelogram. From two neighbours of a patch a lattice grows:
each next patch is looked for where the last step leads. Nothing here knows which colours a chart has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from tasks.ingest.light import ByteArray, FloatArray

FLAT = (4.0, 8.0, 16.0)
"""Change of 8-bit values a pixel, after a slight blur, up to which a region is flat; tried in this order."""
_BLUR_PX = 0.8
_LEAST_PX, _LARGEST_SHARE = 30, 0.03
"""Area of a patch, in pixels and as a share of the picture."""
_FILL = (0.75, 1.15)
"""Area over that of the parallelogram with the same second moments: 1 for every parallelogram."""
_MOST_STRETCH = 6.0
"""Ratio of a patch's axes."""
_AREAS_ALIKE = 2.5
_NEIGHBOURS = 10
_STEP = (1.0, 1.9)
"""From one patch to the next, in square roots of a patch's area."""
_OFF = 0.22
"""How far from where it is expected a patch may lie, in steps."""
_WIDEST = 8
LEAST_CELLS = 11

Cell = tuple[int, int]


@dataclass(frozen=True)
class Lattice:
    """Patches in a grid. Right-handed: a step along the second axis is clockwise of one along the first."""

    cells: npt.NDArray[np.int64]
    """[N, 2] places in the grid, from any origin."""
    centres: FloatArray
    """[N, 2] x and y of the patches in pixels, centres of pixels at +0.5."""


def find_lattices(pixels: ByteArray) -> Iterator[Lattice]:
    """The lattices of at least `LEAST_CELLS` patches in a picture [H, W, 3], as they are found."""
    smooth = ndimage.gaussian_filter(pixels.astype(np.float32), (_BLUR_PX, _BLUR_PX, 0))
    change = np.maximum(*(np.abs(np.gradient(smooth, axis=axis)).max(axis=2) for axis in (0, 1)))
    for threshold in FLAT:
        yield from _grown(*_patches(change < threshold))


def _patches(flat: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """[N, 2] centres and [N] areas of the regions that may be patches."""
    labels, count = ndimage.label(flat)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    wanted = (areas >= _LEAST_PX) & (areas <= _LARGEST_SHARE * flat.size)
    wanted[0] = False
    numbers = np.full(count + 1, -1)
    numbers[wanted] = np.arange(int(wanted.sum()))
    y, x = np.nonzero(wanted[labels])
    index = numbers[labels[y, x]]
    area = areas[wanted].astype(np.float64)

    def mean(values: npt.NDArray[np.float64]) -> FloatArray:
        return np.bincount(index, weights=values, minlength=len(area)) / area

    cx, cy = mean(x.astype(np.float64)), mean(y.astype(np.float64))
    dx, dy = x - cx[index], y - cy[index]
    # 1/12 is the second moment of a pixel itself
    xx, yy, xy = mean(dx * dx) + 1 / 12, mean(dy * dy) + 1 / 12, mean(dx * dy)
    determinant = np.maximum(xx * yy - xy * xy, 1e-9)
    spread = np.sqrt(np.maximum((xx - yy) ** 2 / 4 + xy * xy, 0.0))
    stretch = np.sqrt(((xx + yy) / 2 + spread) / np.maximum((xx + yy) / 2 - spread, 1e-9))
    fill = area / (12 * np.sqrt(determinant))
    good = (fill >= _FILL[0]) & (fill <= _FILL[1]) & (stretch <= _MOST_STRETCH)
    return np.stack([cx + 0.5, cy + 0.5], axis=1)[good], area[good]


def _grown(centres: FloatArray, areas: FloatArray) -> Iterator[Lattice]:
    if len(centres) < LEAST_CELLS:
        return
    tree = cKDTree(centres)
    known: set[tuple[int, int]] = set()
    """Neighbours in lattices that were found, both ways: from any of them the same lattice grows."""
    _, near = tree.query(centres, k=min(_NEIGHBOURS + 1, len(centres)))
    for seed in range(len(centres)):
        around = [other for other in near[seed][1:] if _next_to(centres, areas, seed, other)]
        for right, down in _bases(centres, tree, seed, around):
            if (seed, right) in known and (seed, down) in known:
                continue
            cells = _grow(centres, areas, tree, seed, centres[right] - centres[seed], centres[down] - centres[seed])
            if len(cells) >= LEAST_CELLS:
                known.update(_edges(cells))
                yield Lattice(np.array(list(cells)), centres[list(cells.values())])


def _edges(cells: dict[Cell, int]) -> Iterator[tuple[int, int]]:
    for (u, v), one in cells.items():
        for beside in ((u + 1, v), (u, v + 1)):
            if beside in cells:
                yield one, cells[beside]
                yield cells[beside], one


def _next_to(centres: FloatArray, areas: FloatArray, one: int, other: int) -> bool:
    if not 1 / _AREAS_ALIKE < areas[one] / areas[other] < _AREAS_ALIKE:
        return False
    distance = float(np.linalg.norm(centres[one] - centres[other]))
    side = float(np.sqrt((areas[one] + areas[other]) / 2))
    return _STEP[0] / 2 <= distance / side <= 2 * _STEP[1]


def _bases(centres: FloatArray, tree: cKDTree, seed: int, around: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of neighbours that may be the next along both axes: a fourth patch completes the parallelogram."""
    steps = {other: centres[other] - centres[seed] for other in around}
    for right, a in steps.items():
        for down, b in steps.items():
            lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
            turn = (a[0] * b[1] - a[1] * b[0]) / (lengths[0] * lengths[1])
            if turn > 0.6 and 0.4 < lengths[0] / lengths[1] < 2.5:
                distance, fourth = tree.query(centres[seed] + a + b)
                if distance <= _OFF * max(lengths) and fourth not in (right, down):
                    yield right, down


def _grow(
    centres: FloatArray, areas: FloatArray, tree: cKDTree, seed: int, right: FloatArray, down: FloatArray
) -> dict[Cell, int]:
    """The patches that steps to all four sides reach, by their places."""
    cells: dict[Cell, int] = {(0, 0): seed}
    taken = {seed}
    waiting = [(0, 0)]
    while waiting:
        at = waiting.pop(0)
        for axis, sign in ((0, 1), (1, 1), (0, -1), (1, -1)):
            to = (at[0] + sign * (axis == 0), at[1] + sign * (axis == 1))
            if to in cells or max(map(abs, to)) > _WIDEST:
                continue
            step = _step(cells, centres, at, to, sign * (right if axis == 0 else down))
            distance, found = tree.query(centres[cells[at]] + step)
            alike = 1 / _AREAS_ALIKE < areas[found] / areas[cells[at]] < _AREAS_ALIKE
            if distance <= _OFF * float(np.linalg.norm(step)) and alike and found not in taken:
                cells[to] = int(found)
                taken.add(int(found))
                waiting.append(to)
    return cells


def _step(cells: dict[Cell, int], centres: FloatArray, at: Cell, to: Cell, default: FloatArray) -> FloatArray:
    """The way from one place to the next: as beside it, or as the step before."""
    across = (to[1] - at[1], to[0] - at[0])
    for side in (1, -1):
        beside = (at[0] + side * across[0], at[1] + side * across[1])
        beyond = (to[0] + side * across[0], to[1] + side * across[1])
        if beside in cells and beyond in cells:
            return np.asarray(centres[cells[beyond]] - centres[cells[beside]])
    before = (2 * at[0] - to[0], 2 * at[1] - to[1])
    return np.asarray(centres[cells[at]] - centres[cells[before]]) if before in cells else default
