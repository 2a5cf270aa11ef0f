"""The iso-surface of a field over the cube [-1, 1]^3, coarse to fine, closed at the cube's walls.

A coarse grid finds the bricks that the surface may pass; only these are evaluated on the fine grid. The fine grid
is walked in slabs along x, so memory holds one slab. Every fine sample is evaluated once and every vertex belongs to
one edge of the grid, so slabs weld exactly and the mesh is watertight by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from models.fields.base import Field
from tasks.mesh.mesh import IntArray, Mesh

Grid = npt.NDArray[np.float32]
"""Inside-ness: positive inside, in cells for distances, in logarithms of density / level for densities."""
BoolGrid = npt.NDArray[np.bool_]

BRICK = 16
"""Fine cells along a brick's side; the resolution is a multiple of it."""
STRIDE = 4
"""Fine cells between coarse samples."""
LIMIT = 3.0
"""Values are clipped to [-LIMIT, LIMIT]: what lies far from the level does not pull vertices."""
NUDGE = 0.01
"""No sample is nearer to zero than this: a vertex then lies inside its grid edge and no sliver collapses."""
NEAR_DENSITY = 2.5
"""A brick whose coarse densities stay below level / e^2.5 is taken as empty."""
_BATCH = 1 << 18


def round_resolution(resolution: int) -> int:
    """The resolution that is used: the next multiple of the brick's side."""
    return -(-resolution // BRICK) * BRICK


class Sampler:
    """Inside-ness of a field at points of the fine grid of `resolution` cells a side."""

    def __init__(
        self, field: Field, resolution: int, level: float, check: Callable[[], None], solid: BoolGrid | None = None
    ) -> None:
        self._field, self._cells, self._level, self._check = field, resolution, level, check
        self._solid = solid
        self._device = next((p.device for p in (*field.parameters(), *field.buffers())), torch.device("cpu"))
        self._occupied: BoolGrid | None = None
        if field.occupancy is not None:
            from scipy.ndimage import binary_dilation

            grid = field.occupancy.cpu().numpy().astype(bool).transpose(2, 1, 0)
            # one ring more: the surface may not take the shape of the occupancy cells themselves
            self._occupied = binary_dilation(grid, np.ones((3, 3, 3), bool))

    @torch.no_grad()
    def __call__(self, index: IntArray) -> Grid:
        """[N] inside-ness at grid points `index` [N, 3] (x, y, z), clipped."""
        result = np.full(len(index), -LIMIT, np.float32)
        for start in range(0, len(index), _BATCH):
            self._check()
            part = index[start : start + _BATCH]
            x = part * (2.0 / self._cells) - 1.0
            wanted = np.arange(len(part))
            if self._occupied is not None:
                size = np.array(self._occupied.shape)
                cell = np.clip(((x + 1.0) / 2.0 * size).astype(np.int64), 0, size - 1)
                wanted = np.nonzero(self._occupied[cell[:, 0], cell[:, 1], cell[:, 2]])[0]
            if len(wanted):
                points = torch.from_numpy(x[wanted].astype(np.float32)).to(self._device)
                value = self._field.query(points)[0].float().cpu().numpy()
                result[start + wanted] = self._inside(value)
            if self._solid is not None:
                steps = len(self._solid) - 1
                place = np.rint((x + 1.0) / 2.0 * steps).astype(np.int64)
                values = result[start : start + len(part)]
                values[self._solid[place[:, 0], place[:, 1], place[:, 2]] & (values <= 0)] = LIMIT
        return result

    def _inside(self, value: Grid) -> Grid:
        if self._field.kind == "sdf":
            inside = (self._level - value) * (self._cells / 2.0)
        else:
            # densities rise exponentially: their logarithm is what varies linearly between samples
            inside = np.log(np.maximum(value, 1e-12) / self._level)
        clipped: Grid = np.nan_to_num(np.clip(inside, -LIMIT, LIMIT), nan=-LIMIT).astype(np.float32)
        return clipped


def extract(
    field: Field,
    resolution: int,
    level: float | None = None,
    smooth_cells: float = 0.0,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[float], None] = lambda share: None,
    solid: BoolGrid | None = None,
) -> Mesh:
    """The closed surface where the field crosses its level.

    Args:
        resolution: fine cells along the cube, rounded up to a multiple of 16.
        level: instead of the field's own.
        smooth_cells: standard deviation in cells of a Gaussian over the inside-ness; 0 for none.
        solid: [n, n, n] points at linspace(-1, 1, n) along x, y, z that are inside whatever the field says.

    Returns:
        a mesh in field coordinates whose faces run counter-clockwise seen from outside; without faces when the
        field never crosses the level.
    """
    cells = round_resolution(resolution)
    sampler = Sampler(field, cells, field.level if level is None else level, check, solid)
    coarse = _coarse(sampler, cells)
    near = NEAR_DENSITY if field.kind == "density" else min(STRIDE * 1.75, LIMIT)
    active = _active_bricks(coarse, near)
    slabs = _slabs(sampler, coarse, active, cells, progress)
    if smooth_cells > 0:
        slabs = _smoothed(slabs, smooth_cells)
    return _march(slabs, cells)


def _coarse(sampler: Sampler, cells: int) -> Grid:
    """[C, C, C] inside-ness at every STRIDE-th grid point, the last one included."""
    n = cells // STRIDE + 1
    axis = np.arange(n, dtype=np.int64) * STRIDE
    planes = [
        sampler(np.stack(np.meshgrid([x], axis, axis, indexing="ij"), -1).reshape(-1, 3)).reshape(n, n) for x in axis
    ]
    return np.stack(planes)


def _active_bricks(coarse: Grid, near: float) -> BoolGrid:
    """[B, B, B] bricks that the surface may pass: judged over the brick and one coarse cell around it."""
    from scipy.ndimage import maximum_filter, minimum_filter

    per = BRICK // STRIDE
    size = per + 3
    # windows of per + 3 samples centred so that they start one sample before the brick and end one behind it
    centre = slice(per // 2, None, per)
    low = minimum_filter(coarse, size, mode="nearest")[centre, centre, centre]
    high = maximum_filter(coarse, size, mode="nearest")[centre, centre, centre]
    active: BoolGrid = (low < 0) & (high > -near)
    # what is inside at the cube's wall is closed there
    wall = np.zeros_like(active)
    for axis in range(3):
        for end in (0, -1):
            wall[(slice(None),) * axis + (end,)] = True
    active |= wall & (high > -near)
    return active


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
        for j, k in np.argwhere(active[i]):
            values = sampler(offsets + np.array([i, j, k]) * BRICK)
            block = (slice(None), slice(j * BRICK, (j + 1) * BRICK), slice(k * BRICK, (k + 1) * BRICK))
            slab[block] = values.reshape(BRICK, BRICK, BRICK)
            done += 1
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
    """Marching cubes slab by slab, welded along the planes that neighbours share."""
    from skimage.measure import marching_cubes

    vertices: list[npt.NDArray[np.float64]] = []
    faces: list[IntArray] = []
    count, planes = 0, 0
    last: Grid | None = None
    nothing = np.zeros(0, np.int64)
    shared = (nothing, nothing)
    for slab in slabs:
        block = slab if last is None else np.concatenate([last[None], slab])
        block = np.where(np.abs(block) < NUDGE, np.where(block < 0, -NUDGE, NUDGE), block).astype(np.float32)
        first = planes if last is None else planes - 1
        planes, last = planes + len(slab), block[-1]
        entered, shared = shared, (nothing, nothing)
        if len(block) < 2 or not (block.min() < 0 < block.max()):
            continue
        local, corners, _, _ = marching_cubes(block, 0.0, gradient_direction="ascent")
        ids = np.full(len(local), -1, np.int64)
        entry = np.nonzero(local[:, 0] == 0)[0]
        ids[entry] = _lookup(entered, _edge_keys(local[entry], cells))
        fresh = ids < 0
        ids[fresh] = count + np.arange(int(fresh.sum()))
        count += int(fresh.sum())
        vertices.append((local[fresh].astype(np.float64) + np.array([first, 0, 0])) * (2.0 / cells) - 1.0)
        faces.append(ids[corners.astype(np.int64)])
        leaving = np.nonzero(local[:, 0] == len(block) - 1)[0]
        keys = _edge_keys(local[leaving], cells)
        order = np.argsort(keys)
        shared = (keys[order], ids[leaving[order]])
    if not faces:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


def _edge_keys(local: Grid, cells: int) -> IntArray:
    """One number for the edge within a plane of constant x on which each vertex [N, 3] lies."""
    yz = local[:, 1:].astype(np.float64)
    along = np.argmax(np.abs(yz - np.round(yz)), axis=1)
    rows = np.arange(len(yz))
    start = np.round(yz).astype(np.int64)
    start[rows, along] = np.floor(yz[rows, along]).astype(np.int64)
    keys: IntArray = (along * (cells + 1) + start[:, 0]) * (cells + 1) + start[:, 1]
    return keys


def _lookup(table: tuple[IntArray, IntArray], keys: IntArray) -> IntArray:
    """[N] value of each key in a table of (sorted keys, values); -1 where there is none."""
    known, values = table
    if len(known) == 0:
        return np.full(len(keys), -1, np.int64)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, values[at], -1)
