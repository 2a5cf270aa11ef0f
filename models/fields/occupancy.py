"""The occupancy grid: which cells of the cube are worth sampling (Instant-NGP, appendix E)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.fields.kernels.reference import COARSE, cell_index, occupied

CHUNK = 1 << 17
"""Points whose density is asked for at once."""


class OccupancyGrid(nn.Module):
    """Grids of remembered densities over cubes [-2^k, 2^k]^3, and the cells where they matter. Index (k, z, y, x).

    A point belongs to the smallest cube that contains it.

    Args:
        resolution: cells along an edge; a multiple of COARSE.
        cascades: number of cubes.
    """

    density: Tensor
    occupied_cells: Tensor
    blocks: Tensor
    """Whether any of COARSE^3 cells is occupied; see ops.march."""
    allowed: Tensor

    def __init__(self, resolution: int, cascades: int = 1) -> None:
        super().__init__()
        if resolution % COARSE:
            raise ValueError(f"expected a multiple of {COARSE}, found {resolution}")
        self.resolution, self.cascades = resolution, cascades
        cells, blocks = (cascades, *[resolution] * 3), (cascades, *[resolution // COARSE] * 3)
        self.register_buffer("density", torch.zeros(cells))
        self.register_buffer("allowed", torch.ones(cells, dtype=torch.uint8))
        self.register_buffer("occupied_cells", torch.ones(cells, dtype=torch.uint8))
        self.register_buffer("blocks", torch.ones(blocks, dtype=torch.uint8))

    @property
    def extent(self) -> float:
        """Half the edge of the largest cube."""
        return float(1 << (self.cascades - 1))

    @property
    def share(self) -> float:
        """Share of the cells that are occupied."""
        return float(self.occupied_cells.float().mean())

    def occupied(self, x: Tensor) -> Tensor:
        """[N] bool: whether the cells of points [N, 3] are occupied."""
        return occupied(x, self.occupied_cells)

    def index(self, x: Tensor) -> Tensor:
        """[N] int64 numbers of the cells of points [N, 3]."""
        return cell_index(x, self.cascades, self.resolution)

    def forbid(self, cells: Tensor) -> None:
        """Keep cells [K, G, G, G] bool empty for good."""
        self.allowed &= (~cells).to(torch.uint8)
        self._decide(self.occupied_cells > 0)

    def grow(self) -> None:
        """Occupy the 26 neighbours of occupied cells as well."""
        self._decide(self.around())

    def around(self) -> Tensor:
        """[K, G, G, G] bool: the occupied cells and their 26 neighbours."""
        found = self.occupied_cells
        for axis in (1, 2, 3):
            wider, inner = found.clone(), self.resolution - 1
            wider.narrow(axis, 1, inner).bitwise_or_(found.narrow(axis, 0, inner))
            wider.narrow(axis, 0, inner).bitwise_or_(found.narrow(axis, 1, inner))
            found = wider
        return found > 0

    def _decide(self, occupied_cells: Tensor) -> None:
        self.occupied_cells = (occupied_cells & (self.allowed > 0)).to(torch.uint8)
        self.blocks = nn.functional.max_pool3d(self.occupied_cells.float()[None], COARSE)[0].to(torch.uint8)

    @torch.no_grad()
    def refresh(
        self,
        density: Callable[[Tensor], Tensor],
        cells: Tensor,
        threshold: float,
        generator: torch.Generator,
        decay: float = 0.95,
        lenient: bool = True,
    ) -> None:
        """Look at the density at a random point in each of some cells, and decide anew what is occupied.

        Args:
            density: [N, 3] -> [N].
            cells: [M] int64 numbers of the cells to look at.
            threshold: density above which a cell counts.
            decay: factor on what the looked-at cells remember.
            lenient: go by the grid's mean density where that is lower than the threshold.
        """
        g = self.resolution
        low = torch.stack([cells % g, cells // g % g, cells // (g * g) % g], 1)
        jitter = torch.rand(len(cells), 3, generator=generator, device=cells.device)
        extent = torch.exp2((cells // g**3).float())[:, None]
        x = ((low + jitter) * (2.0 / g) - 1.0) * extent
        found = torch.cat([density(part) for part in torch.split(x, CHUNK)]) if len(x) else x[:, 0]
        memory = self.density.view(-1)
        memory[cells] = torch.maximum(memory[cells] * decay, found)
        self._decide(self.density > (min(threshold, float(memory.mean())) if lenient else threshold))

    @torch.no_grad()
    def scheduled(self, turn: int, warm: bool, generator: torch.Generator) -> Tensor:
        """[M] cells to look at, an eighth of the allowed ones.

        While warm every eighth cell in turn; later half at random and half among the occupied.
        """
        allowed = self.allowed.view(-1).nonzero()[:, 0]
        if warm:
            return allowed[turn % 8 :: 8]
        device, half = allowed.device, len(allowed) // 16
        occupied_cells = self.occupied_cells.view(-1).nonzero()[:, 0]
        pools = (allowed, occupied_cells if len(occupied_cells) else allowed)
        picks = [p[torch.randint(max(len(p), 1), (half,), generator=generator, device=device)] for p in pools if len(p)]
        return torch.cat(picks) if picks else allowed


def cell_centres(resolution: int) -> Tensor:
    """[G^3, 3] centres of the cells of a grid over [-1, 1]^3, x fastest."""
    axis = (torch.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], -1).view(-1, 3)
