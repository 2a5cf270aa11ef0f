"""What fields of a hash encoding share: encoding, networks, occupancy grid, and a small model of what lies outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.fields.background import Background, back_edges, front_edges
from models.fields.base import Field
from models.fields.hash_encoding import HashEncoding
from models.fields.mlp import MLP
from models.fields.occupancy import OccupancyGrid
from models.fields.sh import SH_WIDTH, spherical_harmonics


class HashField(Field):
    """A value from `value_net(encoding)` and a colour MLP(direction, feature) inside the cube; a small model outside.

    A subclass says what the value is: `quantity`, `level` and `query`.

    Args:
        levels, base_resolution, max_resolution, log2_table: of the hash encoding over the cube.
        hidden: width of the hidden layers.
        features: width of the appearance feature.
        colour_layers: hidden layers of the colour network.
        occupancy_resolution: cells along an edge of the occupancy grid.
        step: length of a rendering step in field units.
        background_levels: levels of the outside model's encoding; 0 for no such model.
        near: distance from a camera in field units within which nothing is rendered.
        cascades: cubes of the occupancy grid, each twice as large as the one inside; the encoding covers the largest.
        background: size of the outside model, a name of `background.SIZES`.
    """

    def __init__(
        self,
        levels: int,
        base_resolution: int,
        max_resolution: int,
        log2_table: int,
        hidden: int,
        features: int,
        colour_layers: int,
        occupancy_resolution: int,
        step: float,
        background_levels: int,
        near: float,
        cascades: int = 1,
        background: str = "small",
    ) -> None:
        super().__init__()
        self._config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.step, self.near = step, near
        self.encoding = HashEncoding(levels, base_resolution, max_resolution, log2_table)
        self.value_net = MLP(self.encoding.width, hidden, features)
        self.colour_net = MLP(SH_WIDTH + features, *[hidden] * colour_layers, 3)
        self.cells = OccupancyGrid(occupancy_resolution, cascades)
        self.extent = self.cells.extent
        self.outside = Background(background_levels, background) if background_levels else None

    def reset(self, generator: torch.Generator) -> None:
        """Draw the initial weights."""
        self.encoding.reset(generator)
        self.value_net.reset(generator)
        self.colour_net.reset(generator)
        if self.outside is not None:
            self.outside.reset(generator)

    def config(self) -> dict[str, Any]:
        return self._config

    @property
    def surrounded(self) -> bool:
        return self.outside is not None

    @property
    def grid(self) -> OccupancyGrid:
        return self.cells

    def encode(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """[N, E] encoding of points [N, 3]; `known` as in ops.encode."""
        encoded: Tensor = self.encoding((x + self.extent) * (0.5 / self.extent), known)
        return encoded

    def color(self, x: Tensor, d: Tensor, feature: Tensor) -> Tensor:
        return self.color_from_basis(spherical_harmonics(d), feature)

    def color_from_basis(self, basis: Tensor, feature: Tensor) -> Tensor:
        """[N, 3] sRGB from the directions' spherical harmonics [N, 16] and the features [N, F]."""
        return torch.sigmoid(self.colour_net(torch.cat([basis, feature], 1)))

    def surroundings(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        t_in: Tensor,
        t_out: Tensor,
        visible: Tensor,
        jitter: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As Field.surroundings; samples at random places of their intervals when a generator is given."""
        if self.outside is None:
            return super().surroundings(rays_o, rays_d, t_in, t_out, visible)
        front, transmittance, behind = super().surroundings(rays_o, rays_d, t_in, t_out, visible)
        hit = (t_out > t_in).nonzero()[:, 0]
        if len(hit):
            edges = front_edges(t_in[hit], self.near, self.outside.size.front)
            light, through = self.outside.segment(rays_o[hit], rays_d[hit], edges, _places(edges, jitter))
            front, transmittance = front.index_copy(0, hit, light), transmittance.index_copy(0, hit, through)
        if len(seen := visible.nonzero()[:, 0]):
            edges = back_edges(self._behind(rays_o, rays_d, t_in, t_out)[seen], self.outside.size.back)
            light, _ = self.outside.segment(rays_o[seen], rays_d[seen], edges, _places(edges, jitter))
            behind = behind.index_copy(0, seen, light)
        return front, transmittance, behind

    def _behind(self, rays_o: Tensor, rays_d: Tensor, t_in: Tensor, t_out: Tensor) -> Tensor:
        """[R] where the outer part starts: behind the cube; for rays that miss it, about where they pass it."""
        passing = (-(rays_o * rays_d).sum(1) - 1.0).clamp(min=self.near)
        return torch.where(t_out > t_in, t_out, passing)


def _places(edges: Tensor, generator: torch.Generator | None) -> Tensor:
    """[R, S] places of the samples in the intervals between edges [R, S + 1]."""
    shape = (edges.shape[0], edges.shape[1] - 1)
    if generator is None:
        return torch.full(shape, 0.5, device=edges.device, dtype=edges.dtype)
    return torch.rand(shape, generator=generator, device=edges.device, dtype=edges.dtype)
