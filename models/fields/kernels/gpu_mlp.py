"""Small fully connected networks without biases in Triton, a whole network in one kernel.

A program walks over tiles of points and keeps the weights, and in the backward pass their gradients, on the chip; only
inputs and outputs travel. Hidden layers are computed again in the backward pass rather than saved: for widths up to 64
that is less work than writing and reading them. Other networks go layer by layer through torch's matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.fields.kernels.gpu_launch import OPTIONS, resident_programs

Precision = Literal["half", "tf32", "ieee"]
"""What factors are rounded to; sums are float32. half: float16. ieee: not at all, slow, for comparisons."""
FORWARD_POINTS, BACKWARD_POINTS = 128, 64
"""Points of one tile; in the backward pass what more would need spills out of the registers."""
WIDEST = 64
"""Widest layer of a network in one kernel."""


@triton.jit
def _load_matrix(weights, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr):
    r = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, COLUMNS)[None, :]
    return _rounded(tl.load(weights + r * columns + c, (r < rows) & (c < columns), 0.0), PRECISION)


@triton.jit
def _rounded(x, PRECISION: tl.constexpr):
    if PRECISION == "half":
        x = x.to(tl.float16)
    return x


@triton.jit
def _product(a, b, PRECISION: tl.constexpr):
    return tl.dot(a, b, input_precision="ieee" if PRECISION == "ieee" else "tf32")


@triton.jit
def _relu(x, PRECISION: tl.constexpr):
    return _rounded(tl.where(x > 0.0, x, 0.0), PRECISION)


@triton.jit
def _load_tile(x, i, count, channels, CHANNELS: tl.constexpr):
    """[CHANNELS, points] of x [channels, count]; zero beyond."""
    c = tl.arange(0, CHANNELS)[:, None]
    return tl.load(x + c.to(tl.int64) * count + i[None, :], (c < channels) & (i[None, :] < count), 0.0)


@triton.jit
def _store_tile(x, value, i, count, channels, CHANNELS: tl.constexpr):
    c = tl.arange(0, CHANNELS)[:, None]
    tl.store(x + c.to(tl.int64) * count + i[None, :], value, (c < channels) & (i[None, :] < count))


@triton.jit
def _store_matrix(to, value, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, COLUMNS)[None, :]
    tl.store(to + r * columns + c, value, (r < rows) & (c < columns))


@triton.jit
def _forward(
    x,
    weights,
    y,
    count,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    INPUTS: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUTPUTS: tl.constexpr,
    MIDDLE: tl.constexpr,
    PRECISION: tl.constexpr,
    POINTS: tl.constexpr,
):
    """Widths in capitals are padded to what the tensor cores take. MIDDLE: whether there are two hidden layers."""
    middle = weights + hidden * inputs
    last = middle + hidden * hidden if MIDDLE else middle
    w_in = _load_matrix(weights, hidden, inputs, HIDDEN, INPUTS, PRECISION)
    if MIDDLE:
        w_middle = _load_matrix(middle, hidden, hidden, HIDDEN, HIDDEN, PRECISION)
    w_out = _load_matrix(last, outputs, hidden, OUTPUTS, HIDDEN, PRECISION)
    for tile in range(tl.program_id(0), tl.cdiv(count, POINTS), tl.num_programs(0)):
        i = tile * POINTS + tl.arange(0, POINTS)
        h = _rounded(_load_tile(x, i, count, inputs, INPUTS), PRECISION)
        h = _relu(_product(w_in, h, PRECISION), PRECISION)
        if MIDDLE:
            h = _relu(_product(w_middle, h, PRECISION), PRECISION)
        _store_tile(y, _product(w_out, h, PRECISION), i, count, outputs, OUTPUTS)


@triton.jit
def _backward(
    x,
    weights,
    d_y,
    d_x,
    d_weights,
    count,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    INPUTS: tl.constexpr,
    HIDDEN: tl.constexpr,
    OUTPUTS: tl.constexpr,
    MIDDLE: tl.constexpr,
    WANT_DX: tl.constexpr,
    PRECISION: tl.constexpr,
    POINTS: tl.constexpr,
):
    """d_weights [programs, weights]: each program writes the sums over its own tiles."""
    middle: tl.constexpr = hidden * inputs
    last: tl.constexpr = middle + hidden * hidden if MIDDLE else middle
    whole: tl.constexpr = last + outputs * hidden
    w_in = _load_matrix(weights, hidden, inputs, HIDDEN, INPUTS, PRECISION)
    w_out = _load_matrix(weights + last, outputs, hidden, OUTPUTS, HIDDEN, PRECISION)
    d_in = tl.zeros((HIDDEN, INPUTS), tl.float32)
    d_out = tl.zeros((OUTPUTS, HIDDEN), tl.float32)
    if MIDDLE:
        w_middle = _load_matrix(weights + middle, hidden, hidden, HIDDEN, HIDDEN, PRECISION)
        d_middle = tl.zeros((HIDDEN, HIDDEN), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, POINTS), tl.num_programs(0)):
        i = tile * POINTS + tl.arange(0, POINTS)
        x_tile = _rounded(_load_tile(x, i, count, inputs, INPUTS), PRECISION)
        first = _relu(_product(w_in, x_tile, PRECISION), PRECISION)
        h = first
        if MIDDLE:
            h = _relu(_product(w_middle, first, PRECISION), PRECISION)

        slope = _load_tile(d_y, i, count, outputs, OUTPUTS)
        largest = tl.max(tl.max(tl.abs(slope), 1), 0)
        scale = tl.where(largest > 0.0, largest, 1.0)  # float16 would lose a small loss
        d = _rounded(slope / scale, PRECISION)
        d_out += scale * _product(d, tl.trans(h), PRECISION)
        d = _rounded(tl.where(h > 0.0, _product(tl.trans(w_out), d, PRECISION), 0.0), PRECISION)
        if MIDDLE:
            d_middle += scale * _product(d, tl.trans(first), PRECISION)
            d = _rounded(tl.where(first > 0.0, _product(tl.trans(w_middle), d, PRECISION), 0.0), PRECISION)
        d_in += scale * _product(d, tl.trans(x_tile), PRECISION)
        if WANT_DX:
            _store_tile(d_x, scale * _product(tl.trans(w_in), d, PRECISION), i, count, inputs, INPUTS)
    own = d_weights + tl.program_id(0) * whole
    _store_matrix(own, d_in, hidden, inputs, HIDDEN, INPUTS)
    if MIDDLE:
        _store_matrix(own + middle, d_middle, hidden, hidden, HIDDEN, HIDDEN)
    _store_matrix(own + last, d_out, outputs, hidden, OUTPUTS, HIDDEN)


def _fits_one_kernel(weights: Sequence[Tensor]) -> bool:
    """One or two hidden layers of equal width, none wide."""
    widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    return len(weights) in (2, 3) and len({*widths[1:-1]}) == 1 and max(widths) <= WIDEST


def _shape(weights: Sequence[Tensor]) -> dict[str, int | bool]:
    """The kernels' widths: true, and padded to powers of two from 16 on."""
    true = {"inputs": weights[0].shape[1], "hidden": weights[0].shape[0], "outputs": weights[-1].shape[0]}
    padded = {name.upper(): max(16, triton.next_power_of_2(width)) for name, width in true.items()}
    return {**true, **padded, "MIDDLE": len(weights) == 3}


def _flat(weights: Sequence[Tensor]) -> Tensor:
    return torch.cat([weight.reshape(-1) for weight in weights])


def mlp_forward(
    x: Tensor, weights: Sequence[Tensor], keep: bool, precision: Precision = "half"
) -> tuple[Tensor, Tensor | None]:
    """A network with ReLU between its layers and a linear output.

    Args:
        x: [Ci, N].
        weights: of each layer, [out, in].
        keep: whether a backward pass will follow.
        precision: of networks that fit one kernel; others go by torch's setting for matrix products.

    Returns:
        y [Co, N], and what the backward pass wants to see again, if anything.
    """
    if not _fits_one_kernel(weights):
        hidden = torch.empty(sum(len(weight) for weight in weights[:-1]), x.shape[1], device=x.device)
        for weight, after in zip(weights[:-1], _layers(hidden, weights), strict=True):
            x = torch.mm(weight, x, out=after).relu_()
        return weights[-1] @ x, hidden if keep else None
    count = x.shape[1]
    y = torch.empty(len(weights[-1]), count, device=x.device)
    programs = min(triton.cdiv(count, FORWARD_POINTS), resident_programs(x.device))
    if count:
        flat, shape = _flat(weights), _shape(weights)
        _forward[(programs,)](x, flat, y, count, **shape, PRECISION=precision, POINTS=FORWARD_POINTS, **OPTIONS)
    return y, None


def mlp_backward(
    x: Tensor,
    weights: Sequence[Tensor],
    saved: Tensor | None,
    d_y: Tensor,
    want_dx: bool,
    precision: Precision = "half",
) -> tuple[Tensor | None, list[Tensor]]:
    """The gradient of `mlp_forward`.

    Args:
        saved: as `mlp_forward` returned it.
        d_y: [Co, N].
        want_dx: whether the gradient by the input is asked for.

    Returns:
        d_x [Ci, N] where asked for, and the gradients of the weights [out, in].
    """
    if not _fits_one_kernel(weights):
        if saved is None:
            raise ValueError("expected what a forward pass with keep=True saved, found None")
        return _backward_by_layers(x, weights, saved, d_y, want_dx)
    count = x.shape[1]
    d_x = torch.empty_like(x) if want_dx else None
    if not count:
        return d_x, [torch.zeros_like(weight) for weight in weights]
    flat = _flat(weights)
    programs = min(triton.cdiv(count, BACKWARD_POINTS), resident_programs(x.device))
    partial = torch.empty(programs, len(flat), device=x.device)
    _backward[(programs,)](
        x,
        flat,
        d_y,
        x if d_x is None else d_x,
        partial,
        count,
        **_shape(weights),
        WANT_DX=want_dx,
        PRECISION=precision,
        POINTS=BACKWARD_POINTS,
        num_stages=2,
        **OPTIONS,
    )
    sums = partial.sum(0).split([weight.numel() for weight in weights])
    return d_x, [part.view_as(weight) for part, weight in zip(sums, weights, strict=True)]


def _layers(hidden: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The hidden layers [width, N], which lie one after the other."""
    return torch.split(hidden, [len(weight) for weight in weights[:-1]])


def _backward_by_layers(
    x: Tensor, weights: Sequence[Tensor], hidden: Tensor, d_y: Tensor, want_dx: bool
) -> tuple[Tensor | None, list[Tensor]]:
    gradients, slope = [], d_y
    inputs = (x, *_layers(hidden, weights))
    for number, (weight, before) in enumerate(reversed(list(zip(weights, inputs, strict=True)))):
        gradients.append(slope @ before.t())
        last = number == len(weights) - 1
        if not last:
            slope = (weight.t() @ slope) * (before > 0)
    return weights[0].t() @ slope if want_dx else None, gradients[::-1]
