"""The occupancy grid: which cells of the cube are worth sampling (Instant-NGP, appendix E)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

COARSE = 4
"""Fine cells along an edge of a coarse cell."""
CHUNK = 1 << 17
"""Points whose density is asked for at once."""


class OccupancyGrid(nn.Module):
    """A grid of remembered densities over [-1, 1]^3, and the cells where they matter. Index (z, y, x).

    Args:
        resolution: cells along an edge; a multiple of COARSE.
    """

    density: Tensor
    occupied_cells: Tensor
    coarse_cells: Tensor
    allowed: Tensor

    def __init__(self, resolution: int) -> None:
        super().__init__()
        if resolution % COARSE:
            raise ValueError(f"expected a multiple of {COARSE}, found {resolution}")
        self.resolution, self.coarse_resolution = resolution, resolution // COARSE
        cells, coarse = (resolution,) * 3, (self.coarse_resolution,) * 3
        self.register_buffer("density", torch.zeros(cells))
        self.register_buffer("allowed", torch.ones(cells, dtype=torch.uint8))
        self.register_buffer("occupied_cells", torch.ones(cells, dtype=torch.uint8))
        self.register_buffer("coarse_cells", torch.ones(coarse, dtype=torch.uint8))

    @property
    def share(self) -> float:
        """Share of the cells that are occupied."""
        return float(self.occupied_cells.float().mean())

    def _index(self, x: Tensor, resolution: int) -> Tensor:
        cell = ((x + 1.0) * (0.5 * resolution)).to(torch.int32).clamp_(0, resolution - 1)
        return (cell[:, 2] * resolution + cell[:, 1]) * resolution + cell[:, 0]

    def occupied(self, x: Tensor) -> Tensor:
        """[N] bool: whether the cells of points [N, 3] are occupied."""
        return self.occupied_cells.view(-1).index_select(0, self._index(x, self.resolution)) > 0

    def coarse_occupied(self, x: Tensor) -> Tensor:
        """[N] bool: whether any occupied cell lies within one coarse cell of the points' own [N, 3]."""
        return self.coarse_cells.view(-1).index_select(0, self._index(x, self.coarse_resolution)) > 0

    def forbid(self, cells: Tensor) -> None:
        """Keep cells [G, G, G] bool empty for good."""
        self.allowed &= (~cells).to(torch.uint8)
        self.occupied_cells &= self.allowed
        self.refresh_coarse()

    def refresh_coarse(self) -> None:
        """Derive the coarse grid: any occupied cell inside, or in a neighbour (26 of them)."""
        fine = self.occupied_cells.float()[None, None]
        pooled = nn.functional.max_pool3d(fine, COARSE)
        self.coarse_cells = nn.functional.max_pool3d(pooled, 3, 1, 1)[0, 0].to(torch.uint8)

    @torch.no_grad()
    def refresh(
        self,
        density: Callable[[Tensor], Tensor],
        cells: Tensor,
        threshold: float,
        generator: torch.Generator,
        decay: float = 0.95,
    ) -> None:
        """Look at the density at a random point in each of some cells, and decide anew what is occupied.

        Args:
            density: [N, 3] -> [N].
            cells: [M] int64 numbers of the cells to look at.
            threshold: density above which a cell counts; the grid's mean density if that is lower.
            decay: factor on what the looked-at cells remember.
        """
        g = self.resolution
        low = torch.stack([cells % g, cells // g % g, cells // (g * g)], 1)
        jitter = torch.rand(len(cells), 3, generator=generator, device=cells.device)
        x = (low + jitter) * (2.0 / g) - 1.0
        found = torch.cat([density(part) for part in torch.split(x, CHUNK)]) if len(x) else x[:, 0]
        memory = self.density.view(-1)
        memory[cells] = torch.maximum(memory[cells] * decay, found)
        limit = min(threshold, float(memory.mean()))
        self.occupied_cells = ((self.density > limit) & (self.allowed > 0)).to(torch.uint8)
        self.refresh_coarse()

    @torch.no_grad()
    def scheduled(self, turn: int, warm: bool, generator: torch.Generator) -> Tensor:
        """[M] cells to look at, an eighth of the allowed ones.

        While warm every eighth cell in turn; later half at random and half among the occupied.
        """
        allowed = self.allowed.view(-1).nonzero()[:, 0]
        if warm:
            return allowed[turn % 8 :: 8]
        device, half = allowed.device, len(allowed) // 16
        occupied = self.occupied_cells.view(-1).nonzero()[:, 0]
        pools = (allowed, occupied if len(occupied) else allowed)
        picks = [p[torch.randint(max(len(p), 1), (half,), generator=generator, device=device)] for p in pools if len(p)]
        return torch.cat(picks) if picks else allowed


def cell_centres(resolution: int) -> Tensor:
    """[G^3, 3] centres of the cells of a grid over [-1, 1]^3, x fastest."""
    axis = (torch.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], -1).view(-1, 3)
