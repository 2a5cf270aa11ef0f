"""Where photos contradict a guess, the smallest surface takes its place.

Bridging a gap smoothly goes on as the surface around it does: right for the underside of a round thing, wrong for that
of a chair's seat, whose rim points down. Photos tell the two apart: the guess under the seat ran into space that they
know to be free. There it is drawn back to the least area that its rim allows, by total variation (Chambolle and Pock
2011, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]

Check = Callable[[], None]

COARSE = 2
"""Voxels along the side of the blocks that the least area is found in."""
LARGE = 1.0 / 16.0
"""Radius of a ball in free space, as a share of the region's side, from which on a guess was wrong: what photos shave
off a good one is thinner."""
STEPS = 400
STEP = 1.0 / np.sqrt(12.0)
"""Of both variables: the largest that converges in three dimensions."""


def drawn_back(
    solid: BoolArray, known: BoolArray, free: BoolArray, check: Callable[[], None] = lambda: None
) -> BoolArray:
    """[R, R, R] solid voxels that a guess loses when it is drawn back to the least area.

    Args:
        solid: what is inside, free voxels left out.
        known: measured voxels: they stay as they are.
        free: voxels of the guess that photos know to be free: it is drawn back from large parts of them.
    """
    count = len(solid) // COARSE * COARSE
    fixed = _blocks(known, count).any((1, 3, 5))
    inside = _blocks(solid, count).mean((1, 3, 5)) >= 0.5
    cut = _large(_blocks(free, count).any((1, 3, 5)) & ~fixed & ~inside)
    movable = inside & ~fixed & _nearer(cut, ~inside & ~fixed & ~cut)
    lost = np.zeros_like(solid)
    if movable.any():
        box = _box(movable)
        gone = movable.copy()
        gone[box] &= _least_area(inside[box], movable[box], check) < 0.5
        _blocks(lost, count)[...] = gone[:, None, :, None, :, None]
    return lost & solid & ~known


def _large(free: BoolArray) -> BoolArray:
    """The connected parts of some blocks that hold a large enough ball."""
    from scipy.ndimage import distance_transform_edt, label

    label_of, count = label(free)
    large = np.zeros(count + 1, bool)
    large[label_of[distance_transform_edt(free) >= LARGE * len(free)]] = True
    return np.asarray(free & large[label_of])


def _least_area(inside: BoolArray, movable: BoolArray, check: Check) -> Float32Array:
    """[X, Y, Z] in [0, 1]: the inside of least area among those that differ in movable blocks alone."""
    fixed = inside.astype(np.float32)
    now, ahead = fixed.copy(), fixed.copy()
    flow = np.zeros((3, *fixed.shape), np.float32)
    step = np.float32(STEP)
    for _ in range(STEPS):
        check()
        for axis in range(3):
            np.moveaxis(flow[axis], axis, 0)[:-1] += step * np.diff(np.moveaxis(ahead, axis, 0), axis=0)
        flow /= np.maximum(np.sqrt((flow**2).sum(0)), 1.0)
        change = np.zeros_like(now)
        for axis in range(3):
            into, part = np.moveaxis(change, axis, 0), np.moveaxis(flow[axis], axis, 0)
            into += part
            into[1:] -= part[:-1]
        before = now
        now = np.where(movable, np.clip(now + step * change, 0.0, 1.0), fixed)
        ahead = 2.0 * now - before
    return now


def _box(voxels: BoolArray) -> tuple[slice, ...]:
    """The box around some voxels, with those beside it."""
    ends = [(int(each.min()), int(each.max())) for each in np.nonzero(voxels)]
    return tuple(slice(max(0, low - 1), high + 2) for low, high in ends)


def _blocks(voxels: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """[G, c, G, c, G, c] a view of the first `count` voxels along each side by blocks."""
    side = count // COARSE
    box = voxels[:count, :count, :count]
    shape = (side, COARSE) * 3
    strides = tuple(step for each in box.strides for step in (each * COARSE, each))
    return np.lib.stride_tricks.as_strided(box, shape, strides)


def _nearer(these: BoolArray, those: BoolArray) -> BoolArray:
    """The blocks that are nearer to one of these than to one of those."""
    from scipy.ndimage import distance_transform_edt

    if not these.any():
        return np.zeros_like(these)
    if not those.any():
        return np.ones_like(these)
    return np.asarray(distance_transform_edt(~these) < distance_transform_edt(~those))
