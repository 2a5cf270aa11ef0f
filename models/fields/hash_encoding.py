"""Multiresolution hash encoding (Instant-NGP, Mueller et al. 2022, section 3) in plain torch.

The table is ragged: coarse levels hold every lattice point ((res + 1)^3 entries, padded to 8), fine levels hash into
2^log2_table entries. Two features an entry, so that an entry is one complex number: gathering and scattering complex
numbers moves both features at once, and a one-dimensional `scatter_add_` is a sequential, deterministic loop that is
5 to 10 times faster than adding rows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEATURES = 2
"""Features of one table entry."""
PRIME_Y, PRIME_Z = 2654435761 - (1 << 32), 805459861
"""The hash's primes as int32: products wrap around like the unsigned ones of the paper."""
CHUNK = 1 << 15
"""Points handled at once: eight indices and weights a point then stay in the second-level cache."""


class Level(NamedTuple):
    """One resolution of the lattice."""

    resolution: int
    """Cells along an edge of the unit cube."""
    offset: int
    """First entry in the table."""
    size: int
    """Entries in the table."""
    dense: bool
    """Whether each lattice point has an entry of its own."""


def level_table(levels: int, base_resolution: int, max_resolution: int, log2_table: int) -> tuple[Level, ...]:
    """The levels of a geometric series of resolutions from base to max."""
    growth = math.exp((math.log(max_resolution) - math.log(base_resolution)) / max(levels - 1, 1))
    found: list[Level] = []
    offset = 0
    for number in range(levels):
        resolution = math.floor(base_resolution * growth**number + 1e-6)
        points = (resolution + 1) ** 3
        dense = points <= 1 << log2_table
        size = (points + 7) // 8 * 8 if dense else 1 << log2_table
        found.append(Level(resolution, offset, size, dense))
        offset += size
    return tuple(found)


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
    cell = scaled.to(torch.int32).clamp_(max=level.resolution - 1)
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


def _position_slope(entries: Tensor, dy: Tensor, axis: Tensor, resolution: int) -> Tensor:
    """[3, n] derivative by position of sum(dy * output), from the entries [8, n] complex and dy [n] complex."""
    n = dy.shape[0]
    along = (entries.real * dy.real + entries.imag * dy.imag).view(2, 2, 2, n)
    difference = (along[:, :, 1] - along[:, :, 0], along[:, 1] - along[:, 0], along[1] - along[0])
    x, y, z = axis[:, 0], axis[:, 1], axis[:, 2]
    slope_x = (difference[0] * z[:, None] * y[None]).sum((0, 1))
    slope_y = (difference[1] * z[:, None] * x[None]).sum((0, 1))
    slope_z = (difference[2] * y[:, None] * x[None]).sum((0, 1))
    return torch.stack([slope_x, slope_y, slope_z]) * float(resolution)


class _Encode(torch.autograd.Function):
    """Differentiable once, by the table and by the position."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        entries = torch.view_as_complex(table)
        out = entries.new_empty(len(levels), len(x))
        points = x.t().contiguous()
        keep_corners = ctx.needs_input_grad[1] or ctx.needs_input_grad[0]
        corners = []
        for start in range(0, len(x), CHUNK):
            chunk = points[:, start : start + CHUNK].contiguous()
            for column, level in enumerate(levels):
                index, axis, weight = _corners(chunk, level)
                own = entries[level.offset : level.offset + level.size]
                gathered = own.index_select(0, index.view(-1)).view(index.shape)
                out[column, start : start + CHUNK] = (gathered * weight).sum(0)
                if keep_corners:
                    corners.append((index, axis if ctx.needs_input_grad[0] else None, weight))
        ctx.levels, ctx.corners = levels, corners
        ctx.save_for_backward(table)
        return torch.view_as_real(out.t().contiguous()).view(len(x), -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (table,) = ctx.saved_tensors
        count, levels = len(dy), ctx.levels
        slopes = torch.view_as_complex(dy.reshape(count, len(levels), FEATURES)).t().contiguous()
        entries = torch.view_as_complex(table)
        d_table = torch.zeros_like(entries) if ctx.needs_input_grad[1] else None
        d_x = dy.new_zeros(3, count) if ctx.needs_input_grad[0] else None
        for number, (index, axis, weight) in enumerate(ctx.corners):
            start, column = number // len(levels) * CHUNK, number % len(levels)
            level, slope = levels[column], slopes[column, start : start + CHUNK]
            own = slice(level.offset, level.offset + level.size)
            if d_table is not None:
                d_table[own].scatter_add_(0, index.view(-1).long(), (weight * slope).view(-1))
            if d_x is not None:
                gathered = entries[own].index_select(0, index.view(-1)).view(index.shape)
                d_x[:, start : start + CHUNK] += _position_slope(gathered, slope, axis, level.resolution)
        return (
            None if d_x is None else d_x.t(),
            None if d_table is None else torch.view_as_real(d_table),
            None,
        )


def encode(x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """Interpolated features of points.

    Differentiable once by `x` and by `table`. On a CPU equal inputs give equal bits, gradients included.

    Args:
        x: [N, 3] in [0, 1], the borders included.
        table: [entries, 2].

    Returns:
        [N, 2 * levels], the two features of a level side by side.
    """
    features: Tensor = _Encode.apply(x, table, levels)  # type: ignore[no-untyped-call]
    return features


class HashEncoding(nn.Module):
    """The encoding with its table.

    Args:
        levels: number of resolutions.
        base_resolution, max_resolution: cells along an edge of the unit cube, coarsest and finest.
        log2_table: entries of a hashed level.
    """

    def __init__(self, levels: int, base_resolution: int, max_resolution: int, log2_table: int) -> None:
        super().__init__()
        self.levels = level_table(levels, base_resolution, max_resolution, log2_table)
        self.width = FEATURES * levels
        entries = self.levels[-1].offset + self.levels[-1].size
        self.table = nn.Parameter(torch.zeros(entries, FEATURES))

    def reset(self, generator: torch.Generator, scale: float = 1e-4) -> None:
        """Draw the table uniformly from [-scale, scale]."""
        with torch.no_grad():
            self.table.uniform_(-scale, scale, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 2 * levels] features of points [N, 3] in [0, 1]."""
        return encode(x, self.table, self.levels)
