"""Where along its ray a field is sampled: inside the cube, in occupied cells, at equal steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.fields.kernels import ops
from models.fields.occupancy import OccupancyGrid

FAR_APART = 1e-9


class Samples(NamedTuple):
    """Packed samples: ray by ray, front to back."""

    ray: Tensor
    """[N] int64."""
    t: Tensor
    """[N] distance of the middle of each step along its ray, in field units."""
    offsets: Tensor
    """[R + 1] int64: ray r has the samples offsets[r] to offsets[r + 1]."""

    def leading(self, counts: Tensor) -> tuple[Samples, Tensor]:
        """The first counts [R] samples of each ray, and their numbers [M] among all."""
        last = (self.offsets[:-1] + counts).index_select(0, self.ray)
        kept = (torch.arange(len(self.t), device=self.t.device) < last).nonzero()[:, 0]
        return Samples(self.ray.index_select(0, kept), self.t.index_select(0, kept), _offsets(counts)), kept

    def places(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """[N, 3] positions of the samples along rays [R, 3]."""
        return torch.addcmul(rays_o.index_select(0, self.ray), self.t[:, None], rays_d.index_select(0, self.ray))


def cube_interval(rays_o: Tensor, rays_d: Tensor, near: float = 0.0, extent: float = 1.0) -> tuple[Tensor, Tensor]:
    """Distances at which rays enter and leave the cube [-extent, extent]^3.

    Args:
        rays_o, rays_d: [R, 3].
        near: smallest distance.

    Returns:
        t_in [R] >= near and t_out [R]; t_out <= t_in for rays that miss.
    """
    safe = torch.where(rays_d.abs() < FAR_APART, torch.full_like(rays_d, FAR_APART), rays_d)
    a, b = (-extent - rays_o) / safe, (extent - rays_o) / safe
    t_in = torch.minimum(a, b).amax(-1).clamp(min=near)
    return t_in, torch.maximum(a, b).amin(-1)


def march(
    rays_o: Tensor, rays_d: Tensor, t_in: Tensor, t_out: Tensor, step: float, jitter: Tensor, grid: OccupancyGrid | None
) -> Samples:
    """Samples at t_in + (k + jitter) step < t_out that lie in occupied cells; in all cells without a grid.

    Args:
        rays_o, rays_d: [R, 3] in field units, directions of unit length.
        t_in, t_out: [R] as `cube_interval` gives them.
        step: length of a step.
        jitter: [R] in [0, 1), the place of the samples within their steps.
    """
    cells, blocks = (None, None) if grid is None else (grid.occupied_cells, grid.blocks)
    t, counts = ops.march(rays_o, rays_d, t_in, t_out, jitter, step, cells, blocks)
    ray = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=len(t))
    return Samples(ray, t, _offsets(counts))


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
