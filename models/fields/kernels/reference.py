"""The definition of every operation in plain torch, differentiable, on any device and in any float type.

The tests' truth in double precision, and what is used where nothing faster is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.fields.kernels.levels import Level

PRIME_Y, PRIME_Z = 2654435761 - (1 << 32), 805459861
"""The hash's primes as int32: products wrap around like the unsigned ones of the paper."""
CHUNK = 1 << 15
"""Points handled at once: eight indices and weights a point then stay in the second-level cache."""
COARSE_STEPS = 8
"""Steps that are skipped together where the coarse grid is empty."""
COARSE = 4
"""Fine cells along an edge of a coarse one."""


# -- hash encoding ----------------------------------------------------------------------------------------------------


def _corners(x: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Entries and weights of the lattice points around each point.

    Args:
        x: [3, n] in [0, 1].

    Returns:
        index [8, n] int32 within the level (corner = 4 z + 2 y + x), weights along the axes [2, 3, n] (lower, upper)
        and their products [8, n].
    """
    n = x.shape[1]
    scaled = x * float(level.resolution)
    cell = scaled.nan_to_num(0.0).to(torch.int32).clamp_(min=0, max=level.resolution - 1)
    upper = scaled - cell
    axis = torch.stack([1.0 - upper, upper])
    yz = axis[:, None, 2] * axis[None, :, 1]
    weight = (yz[:, :, None] * axis[None, None, :, 0]).view(8, n)
    ends = torch.stack([cell, cell + 1])
    side = level.resolution + 1
    strides = (1, side, side * side) if level.dense else (1, PRIME_Y, PRIME_Z)
    ends *= torch.tensor(strides, dtype=torch.int32, device=x.device)[:, None]
    if level.dense:
        index = (ends[:, None, 2] + ends[None, :, 1])[:, :, None] + ends[None, None, :, 0]
    else:
        index = (ends[:, None, 2] ^ ends[None, :, 1])[:, :, None] ^ ends[None, None, :, 0]
        index = index.bitwise_and_(level.size - 1)
    return index.view(8, n), axis, weight


def _position_slope(along: Tensor, axis: Tensor, resolution: int) -> Tensor:
    """[3, n] derivative by position, from along [8, n]: the entries' products with the gradient."""
    n = along.shape[1]
    along = along.view(2, 2, 2, n)
    difference = (along[:, :, 1] - along[:, :, 0], along[:, 1] - along[:, 0], along[1] - along[0])
    x, y, z = axis[:, 0], axis[:, 1], axis[:, 2]
    slope_x = (difference[0] * z[:, None] * y[None]).sum((0, 1))
    slope_y = (difference[1] * z[:, None] * x[None]).sum((0, 1))
    slope_z = (difference[2] * y[:, None] * x[None]).sum((0, 1))
    return torch.stack([slope_x, slope_y, slope_z]) * float(resolution)


def _scatter(index: Tensor, values: Tensor, into: Tensor) -> None:
    """into [E, F] += values [F, M] at index [M]. One-dimensional sums are sequential: always the same order."""
    if into.shape[1] == 2 and into.is_contiguous():  # two features as one complex number: half the passes
        both = torch.view_as_complex(values.t().contiguous())
        torch.view_as_complex(into).scatter_add_(0, index, both)
        return
    for feature in range(into.shape[1]):
        column = into.new_zeros(len(into)).scatter_add_(0, index, values[feature])
        into[:, feature] += column


class _Encode(torch.autograd.Function):
    """Differentiable once, by the position and by the table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        features = table.shape[1]
        out = table.new_empty(len(levels), features, len(x))
        points = x.t().to(table.dtype).contiguous()
        for start in range(0, len(x), CHUNK):
            chunk = points[:, start : start + CHUNK].contiguous()
            for column, level in enumerate(levels):
                index, _, weight = _corners(chunk, level)
                gathered = _entries(table, level, index)
                out[column, :, start : start + CHUNK] = (gathered * weight).sum(1)
        ctx.levels = levels
        ctx.save_for_backward(x, table)
        return out.view(len(levels) * features, len(x)).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, table = ctx.saved_tensors
        features = table.shape[1]
        slopes = dy.t().reshape(len(ctx.levels), features, len(x))
        points = x.t().to(table.dtype).contiguous()
        d_table = torch.zeros_like(table) if ctx.needs_input_grad[1] else None
        d_x = dy.new_zeros(3, len(x)) if ctx.needs_input_grad[0] else None
        for start in range(0, len(x), CHUNK):
            chunk = points[:, start : start + CHUNK].contiguous()
            for column, level in enumerate(ctx.levels):
                index, axis, weight = _corners(chunk, level)
                slope = slopes[column, :, start : start + CHUNK]
                if d_table is not None:
                    own = d_table[level.offset : level.offset + level.size]
                    _scatter(index.view(-1).long(), (slope[:, None] * weight).reshape(features, -1), own)
                if d_x is not None:
                    along = (_entries(table, level, index) * slope[:, None]).sum(0)
                    d_x[:, start : start + CHUNK] += _position_slope(along, axis, level.resolution)
        return None if d_x is None else d_x.t(), d_table, None


def _entries(table: Tensor, level: Level, index: Tensor) -> Tensor:
    """[F, 8, n] entries of a level."""
    own = table[level.offset : level.offset + level.size]
    return own.index_select(0, index.view(-1)).t().reshape(table.shape[1], *index.shape)


def encode(x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """[N, levels * F] interpolated features of points x [N, 3] in [0, 1]; see ops.encode."""
    return _Encode.apply(x, table, levels)  # type: ignore[no-any-return, no-untyped-call]


# -- networks ---------------------------------------------------------------------------------------------------------


def mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """[N, Co] of x [N, Ci]; see ops.mlp."""
    *hidden, last = weights
    for weight in hidden:
        x = torch.relu(nn_linear(x, weight))
    return nn_linear(x, last)


nn_linear = torch.nn.functional.linear


# -- volume rendering -------------------------------------------------------------------------------------------------


def ray_of(offsets: Tensor) -> Tensor:
    """[N] int64 which ray each sample belongs to."""
    rays = len(offsets) - 1
    return torch.repeat_interleave(torch.arange(rays, device=offsets.device), offsets[1:] - offsets[:-1])


def before(values: Tensor, ray: Tensor, offsets: Tensor) -> Tensor:
    """[N] sum of the values [N] of the samples of the same ray in front of each; double precision."""
    total = torch.cumsum(values.double(), 0) - values
    return total - total[offsets[ray]]


def weights_of(density: Tensor, offsets: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Each sample's share in its ray's colour, T (1 - exp(-density step)), and the transmittance T, both [N]."""
    tau = density * step
    transmittance = torch.exp(-before(tau, ray_of(offsets), offsets)).to(tau.dtype)
    return transmittance * -torch.expm1(-tau), transmittance


def sum_along_rays(values: Tensor, offsets: Tensor) -> Tensor:
    """[R, C] sums of the values [N, C] of each ray's samples."""
    return values.new_zeros(len(offsets) - 1, values.shape[1]).index_add(0, ray_of(offsets), values)


def composite(density: Tensor, rgb: Tensor, t: Tensor, offsets: Tensor, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Light [R, 3], transmittance [R] and spread [R] of rgb [N, 3]; see ops.composite."""
    weights, _ = weights_of(density, offsets, step)
    light = sum_along_rays(weights[:, None] * rgb, offsets)
    through = torch.exp(-sum_along_rays(density[:, None] * step, offsets)[:, 0])
    w, s, ray = weights.double(), t.double(), ray_of(offsets)
    pairs = 2.0 * w * (s * before(w, ray, offsets) - before(w * s, ray, offsets)) + w * w * (step / 3.0)
    return light, through, sum_along_rays(pairs[:, None], offsets)[:, 0].to(density.dtype)


def visible_counts(density: Tensor, offsets: Tensor, step: float, threshold: float) -> Tensor:
    """[R] int64; see ops.visible_counts."""
    _, transmittance = weights_of(density, offsets, step)
    seen = (transmittance > threshold).to(torch.int64)[:, None]
    return sum_along_rays(seen, offsets)[:, 0]


# -- marching ---------------------------------------------------------------------------------------------------------


def march(
    rays_o: Tensor,
    rays_d: Tensor,
    t_in: Tensor,
    t_out: Tensor,
    jitter: Tensor,
    step: float,
    cells: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Distances [N] of the samples in occupied cells, and how many each ray has [R]; see ops.march.

    Where there is one cascade, runs of steps are left out together. That leaves out nothing occupied: a run is shorter
    than a coarse cell and the coarse grid is grown by one cell, so the cell of the run's middle covers all of it.
    """
    rays = len(t_in)
    longest = float((t_out - t_in).clamp(min=0.0).amax()) if rays else 0.0
    runs = int(longest / (step * COARSE_STEPS)) + 1
    first = torch.arange(runs, device=t_in.device) * COARSE_STEPS
    starts = t_in[:, None] + step * first
    ray, run = (starts < t_out[:, None]).nonzero(as_tuple=True)
    if cells is not None and cells.shape[0] == 1 and step * COARSE_STEPS <= 2.0 * COARSE / cells.shape[1]:
        middle = rays_o[ray] + (starts[ray, run] + 0.5 * step * COARSE_STEPS)[:, None] * rays_d[ray]
        kept = occupied(middle, _grown(cells)).nonzero()[:, 0]
        ray, run = ray[kept], run[kept]
    number = (first[run][:, None] + torch.arange(COARSE_STEPS, device=t_in.device)).view(-1)
    ray = ray.repeat_interleave(COARSE_STEPS)
    t = t_in[ray] + (number + jitter[ray]) * step
    inside = t < t_out[ray]
    if cells is not None:
        inside &= occupied(rays_o[ray] + t[:, None] * rays_d[ray], cells)
    chosen = inside.nonzero()[:, 0]
    return t[chosen], torch.bincount(ray[chosen], minlength=rays)


def _grown(cells: Tensor) -> Tensor:
    """[1, g, g, g] whether a coarse cell or one of its 26 neighbours holds an occupied cell."""
    pooled = torch.nn.functional.max_pool3d(cells.float()[None], COARSE)
    return torch.nn.functional.max_pool3d(pooled, 3, 1, 1)[0]


def occupied(x: Tensor, cells: Tensor) -> Tensor:
    """[N] bool: whether the cells of points x [N, 3] are occupied, by the smallest cascade that contains each."""
    return cells.view(-1).index_select(0, cell_index(x, cells.shape[0], cells.shape[1])) > 0


def cell_index(x: Tensor, cascades: int, side: int) -> Tensor:
    """[N] int64 number of the cell of each point x [N, 3] in a grid [cascades, side, side, side] (k, z, y, x)."""
    size = x.abs().amax(1).clamp(min=1.0)
    cascade = torch.ceil(torch.log2(size)).clamp(max=cascades - 1).to(torch.int64)
    scaled = x / torch.exp2(cascade.to(x.dtype))[:, None]
    cell = ((scaled + 1.0) * (0.5 * side)).to(torch.int64).clamp_(0, side - 1)
    return ((cascade * side + cell[:, 2]) * side + cell[:, 1]) * side + cell[:, 0]


# -- photos -----------------------------------------------------------------------------------------------------------


def look(x: Tensor, photo: Tensor, views: Tensor, starts: Tensor, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What photos show at places; see photos.look."""
    own = views[photo]
    size, focal, middle, pose = own[:, :2], own[:, 2:4], own[:, 4:6], own[:, 6:].view(-1, 3, 4)
    camera = torch.einsum("nk,nkc->nc", x - pose[:, :, 3], pose[:, :, :3])
    depth = camera[:, 2]
    place = camera[:, :2] / depth.clamp(min=1e-6)[:, None] * focal + middle - 0.5
    inside = (depth > 0) & ((place >= 0) & (place <= size - 1)).all(1)
    corner = place.detach().nan_to_num(0.0).floor().clamp(min=0).minimum(size - 2)
    (a, b), width = (place - corner).unbind(1), size[:, 0].long()
    first = starts[photo] + corner[:, 1].long() * width + corner[:, 0].long()
    numbers = torch.stack([first, first + 1, first + width, first + width + 1], 1)
    weights = torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], 1)
    value = (picture[numbers].to(x.dtype) / 255.0 * weights).sum(1)
    return value.where(inside, torch.zeros_like(value)), depth.detach(), inside


# -- optimiser --------------------------------------------------------------------------------------------------------


def adam(
    param: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    gradient: Tensor,
    touched: Tensor | None,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    scale: float = 1.0,
    shadow: Tensor | None = None,
) -> None:
    """One step in place; see ops.SparseAdam."""
    seen = slice(None) if touched is None else touched.nonzero()[:, 0]
    p, m, v, g = (part.view(-1, 16) for part in (param, moment1, moment2, gradient))
    slope = g[seen] / scale
    m[seen] = beta1 * m[seen] + (1 - beta1) * slope
    v[seen] = beta2 * v[seen] + (1 - beta2) * slope * slope
    move = rate * (m[seen] / (1 - beta1**step)) / ((v[seen] / (1 - beta2**step)).sqrt() + eps)
    p[seen] -= torch.where(slope != 0, move, torch.zeros_like(move))
    g[seen] = 0.0
    if touched is not None:
        touched.zero_()
    if shadow is not None:
        shadow.copy_(param)
