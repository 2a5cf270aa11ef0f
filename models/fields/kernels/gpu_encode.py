"""Multiresolution hash encoding (Instant-NGP, Mueller et al. 2022, section 3) in Triton.

A program handles a block of points on one level, levels one after the other, so that the level's table stays in the
second-level cache. The F features of an entry are one row of a [points, F] tile, and thus one vector load: a float32
pair is 8 bytes, a float16 pair 4.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.fields.kernels.gpu_launch import OPTIONS, block
from models.fields.kernels.levels import Level

POINTS = 256
"""Points of one program."""
ADAM_BLOCK = tl.constexpr(16)
"""Floats of the gradient that share a mark."""


@triton.jit
def _load_level(levels, number):
    """Resolution, first entry, strides of y and z in entries, mask of the hash, and whether it is dense."""
    row = levels + 4 * number
    resolution = tl.load(row)
    dense = tl.load(row + 3) != 0
    side = (resolution + 1).to(tl.uint32)
    stride_y = tl.where(dense, side, 2654435761)
    stride_z = tl.where(dense, side * side, 805459861)
    return resolution, tl.load(row + 1), stride_y, stride_z, (tl.load(row + 2) - 1).to(tl.uint32), dense


@triton.jit
def _along(x, resolution):
    """Cell of the coordinates `x` along one axis, and their place in it. NaN falls into cell 0, with a NaN place."""
    scale = resolution.to(tl.float32)
    safe = tl.where(x > 0.0, x, 0.0)
    safe = tl.where(safe < 1.0, safe, 1.0)
    cell = tl.minimum((safe * scale).to(tl.int32), resolution - 1)
    return cell.to(tl.uint32), x * scale - cell.to(tl.float32)


@triton.jit
def _entry(x, y, z, mask, dense):
    """Entry of a lattice point within its level: x, and y and z multiplied by their strides."""
    return tl.where(dense, x + y + z, (x ^ y ^ z) & mask).to(tl.int32)


@triton.jit
def _forward(x, table, levels, out, count, F: tl.constexpr, BLOCK: tl.constexpr):
    number = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    resolution, offset, stride_y, stride_z, mask, dense = _load_level(levels, number)
    cx, fx = _along(tl.load(x + 3 * i, inside, 0.0), resolution)
    cy, fy = _along(tl.load(x + 3 * i + 1, inside, 0.0), resolution)
    cz, fz = _along(tl.load(x + 3 * i + 2, inside, 0.0), resolution)
    cy *= stride_y
    cz *= stride_z
    feature = tl.arange(0, F)[None, :]
    total = tl.zeros((BLOCK, F), tl.float32)
    for c in tl.static_range(8):
        weight = (fx if c & 1 else 1.0 - fx) * (fy if (c >> 1) & 1 else 1.0 - fy) * (fz if c >> 2 else 1.0 - fz)
        entry = offset + _entry(cx + (c & 1), cy + ((c >> 1) & 1) * stride_y, cz + (c >> 2) * stride_z, mask, dense)
        value = tl.load(table + entry[:, None] * F + feature, inside[:, None], 0.0).to(tl.float32)
        total += weight[:, None] * value
    row = (number * F + feature).to(tl.int64) * count
    tl.store(out + row + i[:, None], total, inside[:, None])


@triton.jit
def _backward_table(
    x, levels, d_out, d_table, touched, count, F: tl.constexpr, MARK: tl.constexpr, BLOCK: tl.constexpr
):
    number = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    resolution, offset, stride_y, stride_z, mask, dense = _load_level(levels, number)
    cx, fx = _along(tl.load(x + 3 * i, inside, 0.0), resolution)
    cy, fy = _along(tl.load(x + 3 * i + 1, inside, 0.0), resolution)
    cz, fz = _along(tl.load(x + 3 * i + 2, inside, 0.0), resolution)
    cy *= stride_y
    cz *= stride_z
    feature = tl.arange(0, F)[None, :]
    row = (number * F + feature).to(tl.int64) * count
    slope = tl.load(d_out + row + i[:, None], inside[:, None], 0.0)
    for c in tl.static_range(8):
        weight = (fx if c & 1 else 1.0 - fx) * (fy if (c >> 1) & 1 else 1.0 - fy) * (fz if c >> 2 else 1.0 - fz)
        entry = offset + _entry(cx + (c & 1), cy + ((c >> 1) & 1) * stride_y, cz + (c >> 2) * stride_z, mask, dense)
        tl.atomic_add(d_table + entry[:, None] * F + feature, weight[:, None] * slope, inside[:, None], sem="relaxed")
        if MARK:
            tl.store(touched + entry * F // ADAM_BLOCK, 1, inside)


@triton.jit
def _backward_position(x, table, levels, d_out, d_x, count, F: tl.constexpr, LEVELS: tl.constexpr, BLOCK: tl.constexpr):
    """One program sums over all levels, so that no two add to the same position."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    px = tl.load(x + 3 * i, inside, 0.0)
    py = tl.load(x + 3 * i + 1, inside, 0.0)
    pz = tl.load(x + 3 * i + 2, inside, 0.0)
    feature = tl.arange(0, F)[None, :]
    slope_x = tl.zeros((BLOCK,), tl.float32)
    slope_y = tl.zeros((BLOCK,), tl.float32)
    slope_z = tl.zeros((BLOCK,), tl.float32)
    for number in range(LEVELS):
        resolution, offset, stride_y, stride_z, mask, dense = _load_level(levels, number)
        cx, fx = _along(px, resolution)
        cy, fy = _along(py, resolution)
        cz, fz = _along(pz, resolution)
        cy *= stride_y
        cz *= stride_z
        slope = tl.load(d_out + (number * F + feature).to(tl.int64) * count + i[:, None], inside[:, None], 0.0)
        scale = resolution.to(tl.float32)
        for c in tl.static_range(8):
            wx = fx if c & 1 else 1.0 - fx
            wy = fy if (c >> 1) & 1 else 1.0 - fy
            wz = fz if c >> 2 else 1.0 - fz
            entry = offset + _entry(cx + (c & 1), cy + ((c >> 1) & 1) * stride_y, cz + (c >> 2) * stride_z, mask, dense)
            value = tl.load(table + entry[:, None] * F + feature, inside[:, None], 0.0).to(tl.float32)
            along = tl.sum(value * slope, 1) * scale
            slope_x += along * wy * wz if c & 1 else -along * wy * wz
            slope_y += along * wx * wz if (c >> 1) & 1 else -along * wx * wz
            slope_z += along * wx * wy if c >> 2 else -along * wx * wy
    tl.store(d_x + 3 * i, slope_x, inside)
    tl.store(d_x + 3 * i + 1, slope_y, inside)
    tl.store(d_x + 3 * i + 2, slope_z, inside)


@functools.lru_cache
def _level_rows(levels: tuple[Level, ...], device: torch.device) -> Tensor:
    return torch.tensor(levels, dtype=torch.int32, device=device)


def encode_forward(x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """Interpolated features of points.

    Args:
        x: [N, 3] in [0, 1].
        table: [E, F] float32, float16 or bfloat16; F = 1, 2, 4 or 8.

    Returns:
        [L * F, N] float32, row = level * F + feature.
    """
    count, features = len(x), table.shape[1]
    out = torch.empty(len(levels) * features, count, device=x.device)
    if count:
        size = block(POINTS)
        grid = (triton.cdiv(count, size), len(levels))
        _forward[grid](x, table, _level_rows(levels, x.device), out, count, F=features, BLOCK=size, **OPTIONS)
    return out


def encode_backward(
    x: Tensor,
    table: Tensor,
    levels: tuple[Level, ...],
    d_out: Tensor,
    d_table: Tensor | None,
    touched: Tensor | None,
    want_dx: bool,
) -> Tensor | None:
    """The gradient of `encode_forward`.

    Args:
        d_out: [L * F, N].
        d_table: [E, F] float32, added to.
        touched: uint8 [ceil(E * F / 16)], set to 1 for each 16 floats of d_table that are added to.
        want_dx: whether the gradient by position is asked for.

    Returns:
        d_x [N, 3] where asked for.
    """
    count, features = len(x), table.shape[1]
    size, rows = block(POINTS), _level_rows(levels, x.device)
    programs = triton.cdiv(count, size)
    if count and d_table is not None:
        marks = d_table if touched is None else touched
        _backward_table[(programs, len(levels))](
            x, rows, d_out, d_table, marks, count, F=features, MARK=touched is not None, BLOCK=size, **OPTIONS
        )
    if not want_dx:
        return None
    d_x = torch.empty_like(x)
    if count:
        _backward_position[(programs,)](
            x, table, rows, d_out, d_x, count, F=features, LEVELS=len(levels), BLOCK=size, **OPTIONS
        )
    return d_x
