"""Adam (Kingma and Ba 2015) in Triton; for hash tables only where a step has been.

The gradient is a buffer that lives as long as its parameter: it is zeroed here, where it is read anyway.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from models.fields.kernels.gpu_launch import OPTIONS, block

BLOCK = tl.constexpr(16)
"""Floats that share a mark."""
BLOCKS = 64
"""Such blocks of one program."""


@triton.jit
def _adam(
    param,
    moment1,
    moment2,
    gradient,
    touched,
    shadow,
    step_size,
    correction2,
    beta1,
    beta2,
    eps,
    inverse_scale,
    blocks,
    SPARSE: tl.constexpr,
    SHADOW: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    own = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    visited = own < blocks
    if SPARSE:
        visited = visited & (tl.load(touched + own, visited, 0) != 0)
    if tl.max(visited.to(tl.int32), 0) > 0:
        at = own[:, None].to(tl.int64) * BLOCK + tl.arange(0, BLOCK)[None, :]
        mask = visited[:, None]
        slope = tl.load(gradient + at, mask, 0.0) * inverse_scale
        mean = tl.load(moment1 + at, mask, 0.0)
        square = tl.load(moment2 + at, mask, 0.0)
        mean = beta1 * mean + (1.0 - beta1) * slope
        square = beta2 * square + (1.0 - beta2) * slope * slope
        move = step_size * mean / (tl.sqrt(square * correction2) + eps)
        value = tl.load(param + at, mask, 0.0)
        value = tl.where(slope != 0.0, value - move, value)
        tl.store(param + at, value, mask)
        tl.store(moment1 + at, mean, mask)
        tl.store(moment2 + at, square, mask)
        tl.store(gradient + at, tl.zeros_like(slope), mask)
        if SHADOW:
            tl.store(shadow + at, value.to(shadow.dtype.element_ty), mask)
        if SPARSE:
            tl.store(touched + own, 0, visited)


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
    """One bias-corrected step, in place. Values whose gradient is exactly 0 stay; the gradient is zeroed.

    Args:
        param, moment1, moment2, gradient: contiguous float32 of one shape, a multiple of 16 numbers.
        touched: uint8, a mark for each 16 floats: unmarked ones are left alone, marks are taken back. None: all are
            visited.
        step: counted from 1.
        scale: the gradient is divided by it; what a trainer multiplied its loss by.
        shadow: float16 or bfloat16 copy of the parameter that is kept equal to it, rounded.
    """
    blocks = param.numel() // BLOCK.value
    if not blocks:
        return
    size = block(BLOCKS)
    _adam[(triton.cdiv(blocks, size),)](
        param,
        moment1,
        moment2,
        gradient,
        gradient if touched is None else touched,
        param if shadow is None else shadow,
        rate / (1.0 - beta1**step),
        1.0 / (1.0 - beta2**step),
        beta1,
        beta2,
        eps,
        1.0 / scale,
        blocks,
        SPARSE=touched is not None,
        SHADOW=shadow is not None,
        BLOCKS=size,
        **OPTIONS,
    )
