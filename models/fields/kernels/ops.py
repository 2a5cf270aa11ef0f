"""The operations that training spends its time in, on whatever backend is fastest for the tensors' device.

CPU tensors in float32 go to the C++ kernels (`cpu`), CUDA tensors to Triton (`gpu`), everything else, and everything
where these are missing, to plain torch (`reference`). All are deterministic on a CPU: equal inputs give equal bits,
whatever the number of threads. Differentiable once.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.fields.kernels import cpu, reference
from models.fields.kernels.levels import Level

log = logging.getLogger(__name__)
_reference_only = False


@functools.cache
def _gpu() -> ModuleType | None:
    try:
        return importlib.import_module("models.fields.kernels.gpu")
    except ImportError as error:
        log.warning("GPU kernels not loaded (%s): plain torch is used, several times slower", error)
        return None


def backend_of(tensor: Tensor) -> ModuleType | None:
    """The module that computes on tensors like this one; None for the reference."""
    if _reference_only:
        return None
    if tensor.device.type == "cpu":
        return cpu if tensor.dtype == torch.float32 and cpu.available() else None
    return _gpu() if tensor.device.type == "cuda" and tensor.dtype != torch.float64 else None


@contextmanager
def reference_backend() -> Iterator[None]:
    """Within this block the plain torch definitions are used everywhere."""
    global _reference_only  # noqa: PLW0603
    before, _reference_only = _reference_only, True
    try:
        yield
    finally:
        _reference_only = before


# -- hash encoding ----------------------------------------------------------------------------------------------------


class TableGradient:
    """A gradient that stays from step to step: the backward pass adds to it, the optimiser leaves it at zero.

    A table of millions of entries of which a step touches few must not be allocated and cleared every time.
    """

    def __init__(self, table: Tensor) -> None:
        self.values = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        self.touched = torch.zeros(table.numel() // 16, dtype=torch.uint8, device=table.device)
        """[entries * F / 16] uint8: 1 where one of 16 numbers was added to."""
        cpu.advise_large_pages(self.values)

    def add(self, gradient: Tensor) -> None:
        """Add a gradient of the whole table."""
        self.values += gradient
        self.touched |= (gradient.view(-1, 16) != 0).any(1).to(torch.uint8)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        table: Tensor,
        levels: tuple[Level, ...],
        backend: ModuleType,
        into: TableGradient | None,
        known: Tensor | None,
        rounded: Tensor | None,
    ) -> Tensor:
        x, read = x.contiguous(), table if rounded is None else rounded
        out: Tensor = backend.encode_forward(x, read, levels) if known is None else known.t()
        ctx.levels, ctx.backend, ctx.into = levels, backend, into
        ctx.save_for_backward(x, read)
        return out.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, table = ctx.saved_tensors
        want_dx, want_table = ctx.needs_input_grad[:2]
        d_table: Tensor | None = None
        touched = None
        if want_table and ctx.into is not None:
            d_table, touched = ctx.into.values, ctx.into.touched
        elif want_table:
            d_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        d_out = dy.t().contiguous()
        d_x = ctx.backend.encode_backward(x, table, ctx.levels, d_out, d_table, touched, want_dx)
        return d_x, (d_table if ctx.into is None else None), *[None] * 5


def encode(
    x: Tensor,
    table: Tensor,
    levels: tuple[Level, ...],
    into: TableGradient | None = None,
    known: Tensor | None = None,
    rounded: Tensor | None = None,
) -> Tensor:
    """Interpolated features of points: Instant-NGP's encoding.

    Args:
        x: [N, 3] in [0, 1], the borders included.
        table: [entries, F], F in 1, 2, 4, 8.
        into: where the table's gradient is added; None gives it back as autograd does.
        known: [N, levels * F] the result, if it is known already and only the gradient is wanted.
        rounded: [entries, F] float16 or bfloat16, read in place of the table, whose gradient it still is: half of the
            bytes on a GPU. CPU kernels read float32 alone.

    Returns:
        [N, levels * F], the features of a level side by side (stored feature by feature).
    """
    backend = backend_of(table if rounded is None else rounded)
    if backend is None:
        read: Tensor = table if into is None else _Deposit.apply(table, into)  # type: ignore[no-untyped-call]
        if rounded is not None:
            read = read + (rounded.to(table.dtype) - table).detach()
        return reference.encode(x, read, levels)
    return _Encode.apply(x, table, levels, backend, into, known, rounded)  # type: ignore[no-any-return, no-untyped-call]


class _Deposit(torch.autograd.Function):
    """The table itself; its gradient goes to a TableGradient."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, into: TableGradient) -> Tensor:
        ctx.into = into
        return table.view_as(table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        ctx.into.add(gradient)
        return None, None


# -- networks ---------------------------------------------------------------------------------------------------------


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, backend: ModuleType, *weights: Tensor) -> Tensor:
        rows = x.t().contiguous()
        y, hidden = backend.mlp_forward(rows, weights, any(ctx.needs_input_grad))
        ctx.backend = backend
        ctx.save_for_backward(rows, hidden, *weights)
        return y.t()  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, *weights = ctx.saved_tensors
        d_rows, d_weights = ctx.backend.mlp_backward(
            rows, weights, hidden, dy.t().contiguous(), ctx.needs_input_grad[0]
        )
        return None if d_rows is None else d_rows.t(), None, *d_weights


def mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """A fully connected network without biases: ReLU between layers, a linear output.

    Args:
        x: [N, Ci].
        weights: [Ci+1, Ci] each.

    Returns:
        [N, Co] (stored feature by feature).
    """
    backend = backend_of(x)
    if backend is None:
        return reference.mlp(x, weights)
    return _Mlp.apply(x, backend, *weights)  # type: ignore[no-any-return, no-untyped-call]


# -- volume rendering -------------------------------------------------------------------------------------------------


class Composited(NamedTuple):
    """What rays see inside the volume."""

    light: Tensor
    """[R, 3]."""
    through: Tensor
    """[R] transmittance of the whole ray."""
    spread: Tensor
    """[R] distortion (Mip-NeRF 360, eq. 15): sum_ij w_i w_j |t_i - t_j| + step / 3 sum_i w_i^2."""


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, rgb: Tensor, t: Tensor, offsets: Tensor, step: float, backend: ModuleType
    ) -> tuple[Tensor, ...]:
        density, rows = density.contiguous(), rgb.t().contiguous()
        out: tuple[Tensor, ...] = backend.composite_forward(density, rows, t, offsets, step)
        ctx.step, ctx.backend = step, backend
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(density, rows, t, offsets)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        density, rows, t, offsets = ctx.saved_tensors
        rays = len(offsets) - 1
        d_light, d_through, d_spread = (None if slope is None else slope.contiguous() for slope in slopes)
        d_light = density.new_zeros(rays, 3) if d_light is None else d_light
        d_through = density.new_zeros(rays) if d_through is None else d_through
        d_density, d_rgb = ctx.backend.composite_backward(
            density, rows, t, offsets, ctx.step, d_light, d_through, d_spread
        )
        return d_density, d_rgb.t(), None, None, None, None


def composite(density: Tensor, rgb: Tensor, t: Tensor, offsets: Tensor, step: float) -> Composited:
    """Volume rendering of packed samples (Max 1995; NeRF, Mildenhall et al. 2020, eq. 3).

    Packed: ray r has the samples offsets[r] to offsets[r + 1], front to back.

    Args:
        density: [N] in 1 / unit.
        rgb: [N, 3].
        t: [N] distances along the rays; no gradient.
        offsets: [R + 1] int64.
        step: length of a sample in the same unit.
    """
    backend = backend_of(density)
    if backend is None:
        return Composited(*reference.composite(density, rgb, t, offsets, step))
    return Composited(*_Composite.apply(density, rgb, t, offsets, step, backend))  # type: ignore[no-untyped-call]


@torch.no_grad()
def visible_counts(density: Tensor, offsets: Tensor, step: float, threshold: float) -> Tensor:
    """[R] int64: how many leading samples of each ray have a transmittance in front of them above the threshold."""
    backend = backend_of(density)
    if backend is None:
        return reference.visible_counts(density, offsets, step, threshold)
    return backend.visible_counts(density.contiguous(), offsets, step, threshold)  # type: ignore[no-any-return]


# -- marching ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
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
    """The samples t_in + (k + jitter) step < t_out, k = 0, 1, ..., that lie in occupied cells; all without a grid.

    Args:
        rays_o, rays_d: [R, 3].
        t_in, t_out, jitter: [R].
        cells: [K, G, G, G] uint8, index (k, z, y, x): cascade k covers [-2^k, 2^k]^3, and a point belongs to the
            smallest one that contains it.
        blocks: [K, G / 4, G / 4, G / 4] uint8: whether any of 4^3 cells is occupied; needed with `cells`.

    Returns:
        t [N], ray by ray, and counts [R] int64.
    """
    backend = backend_of(t_in)
    if backend is None:
        return reference.march(rays_o, rays_d, t_in, t_out, jitter, step, cells)
    rays = (part.contiguous() for part in (rays_o, rays_d, t_in, t_out, jitter))
    return backend.march(*rays, step, cells, blocks)  # type: ignore[no-any-return]


# -- optimiser --------------------------------------------------------------------------------------------------------


class SparseAdam:
    """Adam for a hash table: entries without a gradient keep their value, and their moments do not decay.

    Args:
        table: [entries, F] the parameter; its number of values a multiple of 16.
        beta1, beta2, eps: as Adam's.
        rounded: float16 or bfloat16 copy of the table that every step keeps equal to it, rounded.
    """

    def __init__(
        self,
        table: Tensor,
        beta1: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-15,
        rounded: Tensor | None = None,
    ) -> None:
        self.table, self.beta1, self.beta2, self.eps = table, beta1, beta2, eps
        self.rounded = rounded
        self.gradient = TableGradient(table)
        self.moment1 = torch.zeros_like(self.gradient.values)
        self.moment2 = torch.zeros_like(self.gradient.values)
        self.steps = 0
        for tensor in (table, self.moment1, self.moment2):
            cpu.advise_large_pages(tensor)

    @torch.no_grad()
    def step(self, rate: float, scale: float = 1.0) -> None:
        """Go along the gradient (divided by `scale`) that was gathered since the last step, and forget it."""
        self.steps += 1
        backend = backend_of(self.table) or reference
        backend.adam(
            self.table.detach(),
            self.moment1,
            self.moment2,
            self.gradient.values,
            self.gradient.touched,
            rate,
            self.beta1,
            self.beta2,
            self.eps,
            self.steps,
            scale,
            self.rounded,
        )

    def forget(self) -> None:
        """Drop what was gathered since the last step."""
        self.gradient.values.zero_()
        self.gradient.touched.zero_()

    def state(self) -> dict[str, Tensor]:
        """What later steps depend on, apart from the table; not copied."""
        return {"moment1": self.moment1, "moment2": self.moment2, "steps": torch.tensor(self.steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a `state`."""
        self.moment1.copy_(state["moment1"])
        self.moment2.copy_(state["moment2"])
        self.steps = int(state["steps"])
        self.forget()
