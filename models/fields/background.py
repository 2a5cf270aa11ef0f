"""A small radiance field for everything outside the cube, so that the cube need not explain it with fog.

All of space is contracted into [-2, 2]^3 as in Mip-NeRF 360 (eq. 10), here with the maximum norm, so that the cube
[-1, 1]^3 stays as it is. Sampled at few, fixed places along a ray, even in inverse distance behind the cube.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.fields.hash_encoding import HashEncoding
from models.fields.mlp import MLP
from models.fields.sh import SH_WIDTH, spherical_harmonics

FEATURES = 16


@dataclass(frozen=True)
class Size:
    """How much a model of the outside can hold, and at what price."""

    max_resolution: int
    """Cells along an edge of [-2, 2]^3 at the finest level."""
    log2_table: int
    front: int
    """Samples of a ray before the cube."""
    back: int
    """Samples of a ray behind the cube."""
    seen_from: bool
    """Whether colours depend on the direction of view."""


SIZES = {"small": Size(256, 15, 4, 10, False), "large": Size(1024, 18, 8, 32, True)}
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
        levels: of the hash encoding over [-2, 2]^3.
        size: a name of SIZES.
        hidden: width of the networks' one hidden layer.
    """

    def __init__(self, levels: int, size: str = "small", hidden: int = 32) -> None:
        super().__init__()
        self.size = SIZES[size]
        self.encoding = HashEncoding(levels, 8, self.size.max_resolution, self.size.log2_table)
        self.net = MLP(self.encoding.width, hidden, FEATURES if self.size.seen_from else 4)
        self.colour_net = MLP(SH_WIDTH + FEATURES, hidden, 3) if self.size.seen_from else None

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        self.encoding.reset(generator)
        self.net.reset(generator)
        if self.colour_net is not None:
            self.colour_net.reset(generator)

    def forward(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Density [N] and sRGB [N, 3] of points [N, 3] of space in field coordinates, seen along d [N, 3]."""
        out = self.net(self.encoding((contract(x) + 2.0) * 0.25))
        colour = out[:, 1:]
        if self.colour_net is not None:
            colour = self.colour_net(torch.cat([spherical_harmonics(d), out], 1))
        return torch.exp(out[:, 0].clamp(max=MAX_LOG_DENSITY) - 1.0), torch.sigmoid(colour)

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
        density, rgb = self(x.view(-1, 3), rays_d[:, None].expand_as(x).reshape(-1, 3))
        tau = density.view(rays, count) * torch.where(closed, length, 0.0)
        tau = torch.where(closed, tau, torch.full_like(tau, 30.0))
        total = tau.cumsum(1)
        weights = torch.exp(tau - total) * -torch.expm1(-tau)
        return (weights[..., None] * rgb.view(rays, count, 3)).sum(1), torch.exp(-total[:, -1])


def front_edges(t_in: Tensor, near: float, count: int) -> Tensor:
    """[R, count + 1] distances from the near end to the cube, denser towards the cube."""
    place = torch.linspace(1.0, 0.0, count + 1, device=t_in.device, dtype=t_in.dtype).square()
    reach = (t_in - near).clamp(min=0.0, max=FRONT_REACH)
    return t_in[:, None] - reach[:, None] * place


def back_edges(t_start: Tensor, count: int) -> Tensor:
    """[R, count + 1] distances from the cube's far side to infinity, even in inverse distance."""
    place = torch.linspace(0.0, 1.0, count + 1, device=t_start.device, dtype=t_start.dtype)[:-1]
    reach = BACK_SCALE * place / (1.0 - place)
    infinite = torch.full_like(t_start[:, None], torch.inf)
    return torch.cat([t_start[:, None] + reach, infinite], 1)
