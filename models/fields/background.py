"""A small radiance field for everything outside the cube, so that the cube need not explain it with fog.

All of space is contracted into [-2, 2]^3 as in Mip-NeRF 360 (eq. 10), here with the maximum norm, so that the cube
[-1, 1]^3 stays as it is. Sampled at few, fixed places along a ray; without view dependence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fields.hash_encoding import HashEncoding
from models.fields.mlp import MLP

FRONT_SAMPLES, BACK_SAMPLES = 4, 10
FRONT_REACH = 2.0
"""How far in front of the cube something is looked for, in field units."""
BACK_SCALE = 1.0
"""Half of the samples behind lie within this distance, in field units."""
MAX_LOG_DENSITY = 8.0


def contract(x: Tensor) -> Tensor:
    """[N, 3] points of space into [-2, 2]^3: x inside the cube, (2 - 1 / |x|) x / |x| outside (maximum norm)."""
    size = x.abs().amax(-1, keepdim=True).clamp(min=1.0)
    return x * ((2.0 - 1.0 / size) / size)


class Background(nn.Module):
    """Density and colour outside the cube.

    Args:
        levels, max_resolution, log2_table: of the hash encoding over [-2, 2]^3.
        hidden: width of the network's one hidden layer.
    """

    def __init__(self, levels: int, max_resolution: int, log2_table: int, hidden: int = 32) -> None:
        super().__init__()
        self.encoding = HashEncoding(levels, 8, max_resolution, log2_table)
        self.net = MLP(self.encoding.width, hidden, 4)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        self.encoding.reset(generator)
        self.net.reset(generator)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Density [N] and sRGB [N, 3] of points [N, 3] of space in field coordinates."""
        out = self.net(self.encoding((contract(x) + 2.0) * 0.25))
        return torch.exp(out[:, 0].clamp(max=MAX_LOG_DENSITY) - 1.0), torch.sigmoid(out[:, 1:])

    def segment(self, rays_o: Tensor, rays_d: Tensor, edges: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        """Light and transmittance of one stretch of each ray.

        Args:
            rays_o, rays_d: [R, 3].
            edges: [R, S + 1] distances that bound the S intervals; an infinite last one makes it opaque.
            jitter: [R, S] in [0, 1), the place of the sample in its interval.

        Returns:
            rgb [R, 3] (premultiplied) and transmittance [R].
        """
        rays, count = jitter.shape
        start, length = edges[:, :-1], edges[:, 1:] - edges[:, :-1]
        closed = length.isfinite()
        t = start + torch.where(closed, length, start + 1.0) * jitter
        x = rays_o[:, None] + t[..., None] * rays_d[:, None]
        density, rgb = self(x.view(-1, 3))
        tau = density.view(rays, count) * torch.where(closed, length, 0.0)
        tau = torch.where(closed, tau, torch.full_like(tau, 30.0))
        total = tau.cumsum(1)
        weights = torch.exp(tau - total) * -torch.expm1(-tau)
        return (weights[..., None] * rgb.view(rays, count, 3)).sum(1), torch.exp(-total[:, -1])


def front_edges(t_in: Tensor, near: float) -> Tensor:
    """[R, FRONT_SAMPLES + 1] distances from the near end to the cube, denser towards the cube."""
    place = torch.linspace(1.0, 0.0, FRONT_SAMPLES + 1, device=t_in.device, dtype=t_in.dtype).square()
    reach = (t_in - near).clamp(min=0.0, max=FRONT_REACH)
    return t_in[:, None] - reach[:, None] * place


def back_edges(t_start: Tensor) -> Tensor:
    """[R, BACK_SAMPLES + 1] distances from the cube's far side to infinity, even in inverse distance."""
    place = torch.linspace(0.0, 1.0, BACK_SAMPLES + 1, device=t_start.device, dtype=t_start.dtype)[:-1]
    reach = BACK_SCALE * place / (1.0 - place)
    infinite = torch.full_like(t_start[:, None], torch.inf)
    return torch.cat([t_start[:, None] + reach, infinite], 1)
