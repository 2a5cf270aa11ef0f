"""Vanilla NeRF (Mildenhall et al. 2020): two large networks over positional encodings, no grid to speed them up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.fields.base import Field
from models.fields.frequency import frequency_encode, frequency_width
from models.fields.hierarchical import integrate, resample, stratified
from models.fields.occupancy import OccupancyGrid

DENSITY_SHIFT = -1.0
"""Added before the density's softplus (as in Mip-NeRF, Barron et al. 2021): an untrained field is thin."""
LEVEL = 5.0
"""Density at the surface in 1 / field unit: a smooth network passes from air to solid over a few hundredths."""
BAKE_ROUNDS = 2
"""Random points of each cell that the occupancy grid is filled from."""


class RadianceNetwork(nn.Module):
    """The network of the paper's figure 7: density from the position, colour from position and direction.

    Args:
        depth, width: layers that see the position, and their width.
        position_frequencies, direction_frequencies: of the positional encodings.
    """

    def __init__(self, depth: int, width: int, position_frequencies: int, direction_frequencies: int) -> None:
        super().__init__()
        self.position_frequencies, self.direction_frequencies = position_frequencies, direction_frequencies
        position = frequency_width(3, position_frequencies)
        self.skip = depth // 2 + 1
        """The encoded position joins the output of this many layers: the fifth of eight."""
        inputs = [position] + [width + position if k == self.skip else width for k in range(1, depth)]
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.density = nn.Linear(width, 1)
        self.feature = nn.Linear(width, width)
        self.direction = nn.Linear(width + frequency_width(3, direction_frequencies), width // 2)
        self.colour = nn.Linear(width // 2, 3)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights uniformly (Glorot and Bengio 2010); biases are zero."""
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight, generator=generator)
                    layer.bias.zero_()

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Density [N] and feature [N, width] of points [N, 3] in the cube.

        Softplus in place of the paper's ReLU: a density that starts below zero everywhere would never learn.
        """
        encoded = frequency_encode(x, self.position_frequencies)
        h = encoded
        for number, layer in enumerate(self.trunk):
            h = torch.relu(layer(torch.cat([h, encoded], 1) if number == self.skip else h))
        return nn.functional.softplus(self.density(h)[:, 0] + DENSITY_SHIFT), self.feature(h)

    def color(self, d: Tensor, feature: Tensor) -> Tensor:
        """[N, 3] sRGB of features [N, width] seen along unit directions [N, 3]."""
        encoded = frequency_encode(d, self.direction_frequencies)
        return torch.sigmoid(self.colour(torch.relu(self.direction(torch.cat([feature, encoded], 1)))))


class NerfField(Field):
    """A coarse network that says where to look and a fine one that is the field.

    `query` and `color` are the fine network's, so that surfaces, pictures and metrics treat it like any other field.
    `cells` holds no part in training: it is filled afterwards (`bake`) to spare the later stages empty space.

    Args:
        depth, width, position_frequencies, direction_frequencies: of both networks.
        occupancy_resolution: cells along an edge of the occupancy grid.
        step: length of a rendering step in field units.
        near: distance from a camera in field units within which nothing is rendered.
        background: brightness of what lies behind the cube, 0 for black to 1 for white.
    """

    method = "nerf"
    quantity = "density"

    def __init__(
        self,
        depth: int,
        width: int,
        position_frequencies: int,
        direction_frequencies: int,
        occupancy_resolution: int,
        step: float,
        near: float,
        background: float,
    ) -> None:
        super().__init__()
        self._config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.level, self.step, self.near, self.background = LEVEL, step, near, background
        sizes = (depth, width, position_frequencies, direction_frequencies)
        self.coarse, self.fine = RadianceNetwork(*sizes), RadianceNetwork(*sizes)
        self.cells = OccupancyGrid(occupancy_resolution)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        self.coarse.reset(generator)
        self.fine.reset(generator)

    def config(self) -> dict[str, Any]:
        return self._config

    @property
    def grid(self) -> OccupancyGrid:
        return self.cells

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.fine.query(x)

    def color(self, x: Tensor, d: Tensor, feature: Tensor) -> Tensor:
        return self.fine.color(d, feature)

    def surroundings(
        self, rays_o: Tensor, rays_d: Tensor, t_in: Tensor, t_out: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        front, through, behind = super().surroundings(rays_o, rays_d, t_in, t_out, visible)
        return front, through, torch.where(visible[:, None], self.background, behind)

    def render(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        t_in: Tensor,
        t_out: Tensor,
        samples: tuple[int, int],
        generator: torch.Generator | None,
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The light that rays see inside the cube, by hierarchical sampling; differentiable by the weights.

        The fine network is asked at both sets of samples together.

        Args:
            rays_o, rays_d: [R, 3] in field coordinates, directions of unit length.
            t_in, t_out: [R] where the rays enter and leave the cube.
            samples: a ray, stratified (at least 3) and drawn where the coarse network finds light.
            generator: of the places of the samples; even ones without one.

        Returns:
            light [R, 3] (premultiplied) and transmittance [R], of the coarse network and of the fine one.
        """
        t = stratified(t_in, t_out, samples[0], generator)
        light, through, weights = self._look(self.coarse, rays_o, rays_d, t, t_out)
        t = torch.cat([t, resample(t, weights, samples[1], generator)], 1).sort(1).values
        fine_light, fine_through, _ = self._look(self.fine, rays_o, rays_d, t, t_out)
        return (light, through), (fine_light, fine_through)

    @staticmethod
    def _look(
        network: RadianceNetwork, rays_o: Tensor, rays_d: Tensor, t: Tensor, t_out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rays, count = t.shape
        x = rays_o[:, None] + t[..., None] * rays_d[:, None]
        density, feature = network.query(x.view(-1, 3))
        rgb = network.color(rays_d.repeat_interleave(count, 0), feature)
        return integrate(density.view(rays, count), rgb.view(rays, count, 3), t, t_out)

    @torch.no_grad()
    def bake(self, threshold: float, generator: torch.Generator) -> None:
        """Fill the occupancy grid from the fine network: cells denser than `threshold`, and their neighbours."""
        grid = self.cells
        every = torch.arange(grid.density.numel(), device=grid.density.device)
        for _ in range(BAKE_ROUNDS):
            grid.refresh(lambda x: self.query(x)[0], every, threshold, generator, decay=1.0)
        grid.grow()
