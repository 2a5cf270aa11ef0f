"""Definitions of the operations in float64, in plain loops: what every backend is compared with."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from models.fields.kernels.levels import Level

PRIMES = (1, 2654435761, 805459861)


def corner_entries(x: Tensor, level: Level) -> list[tuple[tuple[int, ...], Tensor, Tensor]]:
    """The lattice points around points x [N, 3] float64: corner, its entry in the table [N], place in the cell [N, 3].

    Scaled in float32, as by every backend, so that a point beside a lattice plane lies on the same side of it.
    """
    rounded = (x.detach().float() * float(level.resolution)).double()
    cell = rounded.long().clamp(max=level.resolution - 1)
    place = x * level.resolution - cell
    found = []
    for corner in itertools.product((0, 1), repeat=3):
        lattice = cell + torch.tensor(corner)
        if level.dense:
            side = level.resolution + 1
            entry = lattice[:, 0] + side * lattice[:, 1] + side * side * lattice[:, 2]
        else:
            entry = torch.zeros(len(x), dtype=torch.int64)
            for axis, prime in enumerate(PRIMES):
                entry ^= (lattice[:, axis] * prime) & 0xFFFFFFFF
            entry &= level.size - 1
        found.append((corner, level.offset + entry, place))
    return found


def encode(x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """[L * F, N] features of points x [N, 3], differentiable."""
    rows = []
    for level in levels:
        total = torch.zeros(len(x), table.shape[1], dtype=x.dtype)
        for corner, entry, place in corner_entries(x, level):
            weight = torch.ones(len(x), dtype=x.dtype)
            for axis, upper in enumerate(corner):
                weight = weight * (place[:, axis] if upper else 1.0 - place[:, axis])
            total = total + weight[:, None] * table[entry]
        rows.append(total.t())
    return torch.cat(rows)


def mlp(x: Tensor, weights: list[Tensor]) -> Tensor:
    """[Co, N] output for x [Ci, N], differentiable."""
    for weight in weights[:-1]:
        x = torch.clamp(weight @ x, min=0.0)
    return weights[-1] @ x


class Marched(NamedTuple):
    """Samples of one ray by number: those that must be there, and those that may, being on a border up to rounding."""

    must: set[int]
    may: set[int]


def march(
    o: list[float], d: list[float], t_in: float, t_out: float, jitter: float, step: float, cells: Tensor | None
) -> Marched:
    """The samples of one ray through cells [K, G, G, G]."""
    near = 1e-5
    k = torch.arange(max(0, math.ceil((t_out - t_in) / step) + 2), dtype=torch.float64)
    t = t_in + (k + jitter) * step
    points = torch.tensor(o, dtype=t.dtype) + t[:, None] * torch.tensor(d, dtype=t.dtype)
    nudges = near * torch.tensor(list(itertools.product((-1, 0, 1), repeat=3)), dtype=t.dtype)
    found = _occupied(points[:, None] + nudges, cells)
    must = found.all(1) & (t < t_out - near)
    may = found.any(1) & (t < t_out + near)
    return Marched({int(n) for n in k[must]}, {int(n) for n in k[may]})


def _occupied(points: Tensor, cells: Tensor | None) -> Tensor:
    """[..] bool of points [.., 3] float64."""
    if cells is None:
        return torch.ones(points.shape[:-1], dtype=torch.bool)
    cascades, side = cells.shape[:2]
    size = points.abs().amax(-1)
    cascade = sum(((size > 2**k).long() for k in range(cascades - 1)), torch.zeros_like(size, dtype=torch.int64))
    cell = torch.floor((points / 2.0 ** cascade[..., None] + 1.0) * side / 2).long().clamp(0, side - 1)
    return cells[cascade, cell[..., 2], cell[..., 1], cell[..., 0]] > 0


def composite(density: Tensor, rgb: Tensor, t: Tensor, counts: list[int], step: float) -> tuple[Tensor, Tensor, Tensor]:
    """light [R, 3], through [R] and spread [R] of rays with so many samples each, differentiable."""
    light, through, spread = [], [], []
    for own in torch.arange(len(density)).split(counts):
        tau = density[own] * step
        before = torch.cumsum(tau, 0) - tau
        w = torch.exp(-before) * -torch.expm1(-tau)
        light.append((rgb[:, own] * w).sum(1))
        through.append(torch.exp(-tau.sum()))
        apart = (t[own][:, None] - t[own][None, :]).abs()
        spread.append((w[:, None] * w[None, :] * apart).sum() + step / 3 * (w * w).sum())
    return torch.stack(light), torch.stack(through), torch.stack(spread)


def visible(density: Tensor, counts: list[int], step: float, threshold: float) -> list[int]:
    """How many samples of each ray have more than `threshold` of the light left before them."""
    found = []
    for own in density.split(counts):
        tau = own * step
        found.append(int((torch.exp(-(torch.cumsum(tau, 0) - tau)) > threshold).sum()))
    return found


class Adam(NamedTuple):
    """What a step of Adam changes, float64."""

    param: Tensor
    moment1: Tensor
    moment2: Tensor


def adam(
    state: Adam, gradient: Tensor, marked: Tensor, rate: float, beta1: float, beta2: float, eps: float, step: int
) -> Adam:
    """One step where `marked` [n]; a value whose gradient is 0 stays."""
    mean = beta1 * state.moment1 + (1 - beta1) * gradient
    square = beta2 * state.moment2 + (1 - beta2) * gradient**2
    move = rate * (mean / (1 - beta1**step)) / (torch.sqrt(square / (1 - beta2**step)) + eps)
    return Adam(
        torch.where(marked & (gradient != 0), state.param - move, state.param),
        torch.where(marked, mean, state.moment1),
        torch.where(marked, square, state.moment2),
    )
