"""The iso-surface of a field over the cube [-1, 1]^3, coarse to fine, closed at the cube's walls.

A coarse grid finds the bricks that the surface may pass; only these are evaluated on the fine grid. The fine grid
is walked in slabs along x, so memory holds one slab. Every fine sample is evaluated once and every vertex belongs to
one edge of the grid, so the marched tiles weld exactly and the mesh is watertight by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from models.fields.base import Field
from models.mesh.mesh import IntArray, Mesh
from tasks.surface.sampler import LIMIT, BoolGrid, Grid, Sampler

BRICK = 16
"""Fine cells along a brick's side; the resolution is a multiple of it."""
STRIDE = 4
"""Fine cells between coarse samples."""
NUDGE = 0.01
"""No sample is nearer to zero than this: a vertex then lies inside its grid edge and no sliver collapses."""
NEAR_DENSITY = 2.5
"""A brick whose coarse densities stay below level / e^2.5 is taken as empty."""
NEAR_DISTANCE = 6.5
"""A brick is passed over when its coarse samples all lie further than this many cells from the surface: STRIDE *
sqrt(3) / 2 reaches every place between them, and a trained distance may be half as steep again as a true one."""
TILE = 128
"""Cells along the side of what is marched at a time."""
BRICKS = 64
"""Bricks evaluated at a time."""


def round_resolution(resolution: int) -> int:
    """The resolution that is used: the next multiple of the brick's side."""
    return -(-resolution // BRICK) * BRICK


def extract(
    field: Field,
    resolution: int,
    level: float | None = None,
    smooth_cells: float = 0.0,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[float], None] = lambda share: None,
    solid: BoolGrid | None = None,
    broken_share: float = 0.0,
    flip: bool = False,
) -> Mesh:
    """The closed surface where the field crosses its level.

    Args:
        resolution: fine cells along the cube, rounded up to a multiple of 16.
        level: instead of the field's own.
        smooth_cells: standard deviation in cells of a Gaussian over the inside-ness; 0 for none.
        solid, broken_share, flip: as `Sampler` has them.

    Returns:
        a mesh in field coordinates whose faces run counter-clockwise seen from outside; without faces when the
        field never crosses the level.

    Raises:
        DigitizeError(not_finite): more of the field's values than `broken_share` are not finite.
    """
    cells = round_resolution(resolution)
    sampler = Sampler(field, cells, field.level if level is None else level, check, solid, broken_share, flip)
    coarse = _coarse(sampler, cells)
    active = _bricks_by_density(coarse) if field.quantity == "density" else _bricks_by_distance(coarse)
    slabs = _slabs(sampler, np.clip(coarse, -LIMIT, LIMIT), active, cells, progress)
    if smooth_cells > 0:
        slabs = _smoothed(slabs, smooth_cells)
    return _march(slabs, cells)


def _coarse(sampler: Sampler, cells: int) -> Grid:
    """[C, C, C] inside-ness at every STRIDE-th grid point, the last one included."""
    n = cells // STRIDE + 1
    axis = np.arange(n, dtype=np.int64) * STRIDE
    planes = [
        sampler(np.stack(np.meshgrid([x], axis, axis, indexing="ij"), -1).reshape(-1, 3), 2 * NEAR_DISTANCE)
        for x in axis
    ]
    return np.stack(planes).reshape(n, n, n)


def _bricks_by_density(coarse: Grid) -> BoolGrid:
    """[B, B, B] bricks that the surface may pass: judged over the brick and one coarse cell around it."""
    from scipy.ndimage import maximum_filter, minimum_filter

    per = BRICK // STRIDE
    size = per + 3
    # windows of per + 3 samples centred so that they start one sample before the brick and end one behind it
    centre = slice(per // 2, None, per)
    low = minimum_filter(coarse, size, mode="nearest")[centre, centre, centre]
    high = maximum_filter(coarse, size, mode="nearest")[centre, centre, centre]
    active: BoolGrid = ((low < 0) | _at_walls(low.shape)) & (high > -NEAR_DENSITY)
    return active


def _bricks_by_distance(coarse: Grid) -> BoolGrid:
    """[B, B, B] bricks that the surface may pass: a coarse sample is near it, or samples lie on both of its sides."""
    from scipy.ndimage import maximum_filter, minimum_filter

    per = BRICK // STRIDE
    centre = slice(per // 2, None, per)
    low = minimum_filter(coarse, per + 1, mode="nearest")[centre, centre, centre]
    high = maximum_filter(coarse, per + 1, mode="nearest")[centre, centre, centre]
    active: BoolGrid = (low < NEAR_DISTANCE) & (high > -NEAR_DISTANCE)
    active |= _at_walls(low.shape) & (high > 0)
    return active


def _at_walls(shape: tuple[int, ...]) -> BoolGrid:
    """Bricks at the cube's walls: what is inside there is closed there."""
    wall = np.zeros(shape, bool)
    for axis in range(3):
        for end in (0, -1):
            wall[(slice(None),) * axis + (end,)] = True
    return wall


def _slabs(
    sampler: Sampler, coarse: Grid, active: BoolGrid, cells: int, progress: Callable[[float], None]
) -> Iterator[Grid]:
    """The fine grid in slabs [planes, cells + 1, cells + 1] along x; the cube's walls are outside."""
    n, bricks = cells + 1, cells // BRICK
    offsets = np.stack(np.meshgrid(*[np.arange(BRICK)] * 3, indexing="ij"), -1).reshape(-1, 3)
    done, total = 0, max(int(active.sum()), 1)
    for i in range(bricks):
        held = coarse[i * BRICK // STRIDE : (i + 1) * BRICK // STRIDE]
        slab = np.full((BRICK, n, n), -LIMIT, np.float32)
        # where no surface passes only the sign matters: the nearest coarse sample has it
        slab[:, :cells, :cells] = np.repeat(np.repeat(np.repeat(held[:, :-1, :-1], STRIDE, 0), STRIDE, 1), STRIDE, 2)
        chosen = np.argwhere(active[i])
        for start in range(0, len(chosen), BRICKS):
            group = chosen[start : start + BRICKS]
            corners = np.concatenate([np.full((len(group), 1), i), group], 1) * BRICK
            values = sampler((corners[:, None] + offsets).reshape(-1, 3)).reshape(-1, BRICK, BRICK, BRICK)
            for (j, k), brick in zip(group, values, strict=True):
                slab[:, j * BRICK : (j + 1) * BRICK, k * BRICK : (k + 1) * BRICK] = brick
            done += len(group)
        slab[:, 0], slab[:, :, 0] = -LIMIT, -LIMIT
        if i == 0:
            slab[0] = -LIMIT
        progress(done / total)
        yield slab
    yield np.full((1, n, n), -LIMIT, np.float32)


def _smoothed(slabs: Iterator[Grid], sigma: float) -> Iterator[Grid]:
    """The slabs' planes after a Gaussian over all three axes; as many planes as came in."""
    from scipy.ndimage import gaussian_filter1d

    radius = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    held: list[Grid] = []
    first = True
    for slab in slabs:
        flat = gaussian_filter1d(gaussian_filter1d(slab, sigma, 1, radius=radius), sigma, 2, radius=radius)
        held += [flat[0]] * radius if not held else []
        held += list(flat)
        ready = len(held) - 2 * radius
        if ready > 0:
            ahead = _along_x(held, kernel, ready)
            if first:
                ahead[0], first = -LIMIT, False
            yield ahead
            held = held[ready:]
    end = _along_x(held + [held[-1]] * radius, kernel, radius)
    end[-1] = -LIMIT
    yield end


def _along_x(planes: list[Grid], kernel: npt.NDArray[np.float32], count: int) -> Grid:
    result = np.empty((count, *planes[0].shape), np.float32)
    for i in range(count):
        result[i] = sum(weight * plane for weight, plane in zip(kernel, planes[i : i + len(kernel)], strict=True))
        # smoothing may carry the inside onto the wall itself, which must stay closed
        for edge in (0, -1):
            result[i, edge], result[i, :, edge] = -LIMIT, -LIMIT
    return result


def _march(slabs: Iterator[Grid], cells: int) -> Mesh:
    """Marching cubes tile by tile; vertices on the same edge of the grid are one."""
    from skimage.measure import marching_cubes

    vertices: list[npt.NDArray[np.float64]] = []
    faces: list[IntArray] = []
    keys: list[IntArray] = []
    count, planes = 0, 0
    last: Grid | None = None
    for slab in slabs:
        block = slab if last is None else np.concatenate([last[None], slab])
        first = planes if last is None else planes - 1
        planes, last = planes + len(slab), block[-1].copy()
        if len(block) < 2:
            continue
        for y, z in np.ndindex(-(-cells // TILE), -(-cells // TILE)):
            tile = block[:, y * TILE : (y + 1) * TILE + 1, z * TILE : (z + 1) * TILE + 1]
            if not tile.min() < 0 < tile.max():
                continue
            sound = np.where(np.abs(tile) < NUDGE, np.where(tile < 0, -NUDGE, NUDGE), tile).astype(np.float32)
            local, corners, _, _ = marching_cubes(sound, 0.0, gradient_direction="ascent")
            index = local.astype(np.float64) + np.array([first, y * TILE, z * TILE])
            vertices.append(index * (2.0 / cells) - 1.0)
            keys.append(_edge_keys(index, cells, count))
            faces.append(corners.astype(np.int64) + count)
            count += len(local)
    if not faces:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    return _weld(np.concatenate(vertices), np.concatenate(faces), np.concatenate(keys))


def _edge_keys(index: npt.NDArray[np.float64], cells: int, first: int) -> IntArray:
    """One number for the grid's edge on which each vertex [N, 3], in cells, lies; negative ones inside cells."""
    whole = np.round(index)
    off = np.abs(index - whole)
    along = np.argmax(off, axis=1)
    rows = np.arange(len(index))
    start = whole.astype(np.int64)
    start[rows, along] = np.floor(index[rows, along]).astype(np.int64)
    n = cells + 1
    keys: IntArray = ((along * n + start[:, 0]) * n + start[:, 1]) * n + start[:, 2]
    # ambiguous cells get a vertex of their own in their middle, which no other cell has
    inside = np.sort(off, axis=1)[:, 1] > 1e-4
    keys[inside] = -1 - (first + np.nonzero(inside)[0])
    return keys


def _weld(vertices: npt.NDArray[np.float64], faces: IntArray, keys: IntArray) -> Mesh:
    """The mesh with one vertex for each key."""
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return Mesh(vertices[first], which.ravel()[faces])
