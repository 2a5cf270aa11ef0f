"""Ray marching through an occupancy grid with cascades (Instant-NGP, appendix E) in Triton.

A warp handles 32 rays, one in each lane, twice: it counts samples, then, once all counts are known, writes them. Both
passes must find the same samples, so whatever decides about a sample is written with explicit fused multiply-adds.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.fields.kernels.gpu_launch import OPTIONS, block

RAYS = 32
"""Rays of one program, a warp."""
BLOCK_SIDE = tl.constexpr(4)
"""Cells along an edge of a block of cells."""
PARALLEL = tl.constexpr(1e-9)
"""Directions are kept this far from zero."""
FAR = tl.constexpr(1e9)
"""Most steps."""
MARGIN = tl.constexpr(0.01)
"""Steps in front of the end of an empty cell that are looked at all the same, against rounding."""


@triton.jit
def _inverse(d):
    return 1.0 / tl.where(tl.abs(d) < PARALLEL, PARALLEL, d)


@triton.jit
def _cell(x, inverse_extent, SIDE: tl.constexpr):
    """Cell of a coordinate, clamped to the grid; 0 for NaN."""
    place = tl.fma(x, inverse_extent, 1.0) * (SIDE * 0.5)
    place = tl.where(place > 0.0, place, 0.0)
    return tl.where(place < SIDE - 1.0, place, SIDE - 1.0).to(tl.int32)


@triton.jit
def _leaves_at(o, d, inverse, cell, size, extent, SIDE: tl.constexpr):
    """Distance at which a ray leaves, along one axis, its cell or its block, which is `size` cells long."""
    border = (cell // size * size + tl.where(d > 0.0, size, 0)).to(tl.float32) * (2.0 / SIDE) - 1.0
    return tl.fma(border, extent, -o) * inverse


@triton.jit
def _march(
    rays_o,
    rays_d,
    t_in,
    t_out,
    jitter,
    cells,
    blocks,
    first,
    t,
    counts,
    step,
    rays,
    SIDE: tl.constexpr,
    COARSE: tl.constexpr,
    CASCADES: tl.constexpr,
    SKIP_BLOCKS: tl.constexpr,
    WRITE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Counts the samples of each ray; with WRITE stores them from `first` on, at most as many as counted."""
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = ray < rays
    ox = tl.load(rays_o + 3 * ray, inside, 0.0)
    oy = tl.load(rays_o + 3 * ray + 1, inside, 0.0)
    oz = tl.load(rays_o + 3 * ray + 2, inside, 0.0)
    dx = tl.load(rays_d + 3 * ray, inside, 0.0)
    dy = tl.load(rays_d + 3 * ray + 1, inside, 0.0)
    dz = tl.load(rays_d + 3 * ray + 2, inside, 0.0)
    ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
    begin = tl.load(t_in + ray, inside, 0.0)
    end = tl.load(t_out + ray, inside, 0.0)
    shift = tl.load(jitter + ray, inside, 0.0)
    found = tl.zeros((BLOCK,), tl.int32)
    if WRITE:
        start = tl.load(first + ray, inside, 0)
        most = tl.load(counts + ray, inside, 0)
    k = tl.zeros((BLOCK,), tl.float32)
    at = tl.fma(k + shift, step, begin)
    active = inside & (at < end)
    while tl.max(active.to(tl.int32), 0) > 0:
        px, py, pz = tl.fma(at, dx, ox), tl.fma(at, dy, oy), tl.fma(at, dz, oz)
        far = tl.maximum(tl.maximum(tl.abs(px), tl.abs(py)), tl.abs(pz))
        cascade = tl.zeros((BLOCK,), tl.int32)
        extent = tl.full((BLOCK,), 1.0, tl.float32)
        inverse_extent = tl.full((BLOCK,), 1.0, tl.float32)
        for smaller in tl.static_range(CASCADES - 1):
            beyond = far > 2.0**smaller
            cascade = tl.where(beyond, smaller + 1, cascade)
            extent = tl.where(beyond, 2.0 ** (smaller + 1), extent)
            inverse_extent = tl.where(beyond, 0.5 ** (smaller + 1), inverse_extent)
        cx, cy, cz = _cell(px, inverse_extent, SIDE), _cell(py, inverse_extent, SIDE), _cell(pz, inverse_extent, SIDE)
        occupied = tl.load(cells + ((cascade * SIDE + cz) * SIDE + cy) * SIDE + cx, active, 0) != 0
        hit = active & occupied
        if WRITE:
            tl.store(t + start + found, at, hit & (found < most))
        found += hit.to(tl.int32)
        following = k + 1.0
        size = tl.full((BLOCK,), 1, tl.int32)
        if SKIP_BLOCKS:
            block = ((cascade * COARSE + cz // BLOCK_SIDE) * COARSE + cy // BLOCK_SIDE) * COARSE + cx // BLOCK_SIDE
            size = tl.where(tl.load(blocks + block, active, 0) != 0, 1, BLOCK_SIDE)
        leave = _leaves_at(ox, dx, ix, cx, size, extent, SIDE)
        leave = tl.minimum(leave, _leaves_at(oy, dy, iy, cy, size, extent, SIDE))
        leave = tl.minimum(leave, _leaves_at(oz, dz, iz, cz, size, extent, SIDE))
        jump = tl.minimum(tl.ceil((leave - begin) / step - shift - MARGIN), FAR)
        k = tl.where(occupied | ~(jump > following), following, jump)
        at = tl.fma(k + shift, step, begin)
        active = inside & (at < end)
    if not WRITE:
        tl.store(counts + ray, found.to(tl.int64), inside)


def march(
    rays_o: Tensor,
    rays_d: Tensor,
    t_in: Tensor,
    t_out: Tensor,
    jitter: Tensor,
    step: float,
    cells: Tensor | None,
    blocks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The samples t_in + (k + jitter) step < t_out, k = 0, 1, ..., that lie in occupied cells.

    Waits for the GPU: the number of samples decides the size of the result.

    Args:
        rays_o, rays_d: [R, 3] in field units.
        t_in, t_out, jitter: [R].
        step: length of a step.
        cells: uint8 [K, G, G, G] (z, y, x), not 0 where occupied. Cascade k spans [-2^k, 2^k]^3; a point belongs to the
            smallest that contains it. None: every cell is. G is a multiple of 4.
        blocks: uint8 [K, G / 4, G / 4, G / 4], not 0 where any of 4^3 cells is occupied. None: found from the cells.

    Returns:
        t [N], ray by ray, front to back, and how many of them are each ray's, int64 [R].
    """
    rays, device = len(rays_o), rays_o.device
    counts = torch.zeros(rays, dtype=torch.int64, device=device)
    if not rays:
        return torch.empty(0, device=device), counts
    if cells is None:
        cells = torch.ones(1, 4, 4, 4, dtype=torch.uint8, device=device)
    cascades, side = cells.shape[:2]
    coarse = side // 4
    if side % 4:
        raise ValueError(f"expected a multiple of 4 cells along an edge of the grid, found {side}")
    if blocks is None:
        blocks = cells.view(cascades, coarse, 4, coarse, 4, coarse, 4).amax((2, 4, 6))
    size = block(RAYS)
    shape = {"SIDE": side, "COARSE": coarse, "CASCADES": cascades, "BLOCK": size, "num_warps": 1, **OPTIONS}
    skip = cascades == 1 or coarse % 4 == 0  # else a block may reach into the next smaller cascade
    grid = (triton.cdiv(rays, size),)
    given = (rays_o, rays_d, t_in, t_out, jitter, cells, blocks)
    _march[grid](*given, counts, t_in, counts, step, rays, SKIP_BLOCKS=skip, WRITE=False, **shape)
    ends = counts.cumsum(0)
    t = torch.empty(int(ends[-1]), device=device)
    if len(t):
        _march[grid](*given, ends - counts, t, counts, step, rays, SKIP_BLOCKS=skip, WRITE=True, **shape)
    return t, counts
