"""Where along its ray a field is sampled: inside the cube, in occupied cells, at equal steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.fields.occupancy import OccupancyGrid

COARSE_STEPS = 8
"""Steps that are skipped together where the coarse grid is empty."""
FAR_APART = 1e-9


class Samples(NamedTuple):
    """Packed samples: ray by ray, front to back."""

    ray: Tensor
    """[N] int64."""
    t: Tensor
    """[N] distance of the middle of each step along its ray, in field units."""


def cube_interval(rays_o: Tensor, rays_d: Tensor, near: float = 0.0) -> tuple[Tensor, Tensor]:
    """Distances at which rays enter and leave the cube [-1, 1]^3.

    Args:
        rays_o, rays_d: [R, 3].
        near: smallest distance.

    Returns:
        t_in [R] >= near and t_out [R]; t_out <= t_in for rays that miss.
    """
    safe = torch.where(rays_d.abs() < FAR_APART, torch.full_like(rays_d, FAR_APART), rays_d)
    a, b = (-1.0 - rays_o) / safe, (1.0 - rays_o) / safe
    t_in = torch.minimum(a, b).amax(-1).clamp(min=near)
    return t_in, torch.maximum(a, b).amin(-1)


def march(
    rays_o: Tensor, rays_d: Tensor, t_in: Tensor, t_out: Tensor, step: float, jitter: Tensor, grid: OccupancyGrid | None
) -> Samples:
    """Samples at t_in + (k + jitter) step < t_out that lie in occupied cells; in all cells without a grid.

    The coarse pass leaves out nothing occupied: a run of steps is shorter than a coarse cell, and the coarse grid is
    grown by one cell, so every point of the run is covered by the cell of its middle.

    Args:
        rays_o, rays_d: [R, 3] in field units, directions of unit length.
        t_in, t_out: [R] as `cube_interval` gives them.
        step: length of a step; at most a coarse cell / COARSE_STEPS.
        jitter: [R] in [0, 1), the place of the samples within their steps.
    """
    device = rays_o.device
    length = step * COARSE_STEPS
    if grid is not None and length > 2.0 / grid.coarse_resolution:
        raise ValueError(f"expected a step of at most {2.0 / grid.coarse_resolution / COARSE_STEPS:g}, found {step:g}")
    runs = int(torch.ceil(((t_out - t_in).clamp(min=0.0) / length).amax()).item()) if len(t_in) else 0
    starts = t_in[:, None] + length * torch.arange(runs, device=device, dtype=t_in.dtype)
    ray, run = (starts < t_out[:, None]).nonzero(as_tuple=True)
    start = starts[ray, run]
    if grid is not None:
        middle = rays_o[ray] + (start + 0.5 * length)[:, None] * rays_d[ray]
        kept = grid.coarse_occupied(middle).nonzero()[:, 0]
        ray, start = ray[kept], start[kept]
    offsets = step * torch.arange(COARSE_STEPS, device=device, dtype=t_in.dtype)
    t = ((start + step * jitter[ray])[:, None] + offsets).view(-1)
    ray = ray.repeat_interleave(COARSE_STEPS)
    inside = t < t_out[ray]
    if grid is not None:
        inside &= grid.occupied(rays_o[ray] + t[:, None] * rays_d[ray])
    chosen = inside.nonzero()[:, 0]
    return Samples(ray[chosen], t[chosen])
