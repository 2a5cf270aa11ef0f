"""The multiresolution hash encoding with its table (Instant-NGP, Mueller et al. 2022, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fields.kernels import cpu, ops
from models.fields.kernels.levels import entries, level_table


class HashEncoding(nn.Module):
    """The encoding with its table.

    Args:
        levels: number of resolutions.
        base_resolution, max_resolution: cells along an edge of the unit cube, coarsest and finest.
        log2_table: entries of a hashed level.
        features: numbers of an entry: 1, 2, 4 or 8.
    """

    def __init__(
        self, levels: int, base_resolution: int, max_resolution: int, log2_table: int, features: int = 2
    ) -> None:
        super().__init__()
        self.levels = level_table(levels, base_resolution, max_resolution, log2_table)
        self.width = features * levels
        self.table = nn.Parameter(torch.zeros(entries(self.levels), features))
        self.gradient: ops.TableGradient | None = None
        """Where the table's gradient is gathered; None hands it to autograd."""
        self.rounded: Tensor | None = None
        """A copy in half precision that is read in place of the table; None where the table itself is read."""
        cpu.advise_large_pages(self.table.data)

    def reset(self, generator: torch.Generator, scale: float = 1e-4) -> None:
        """Draw the table uniformly from [-scale, scale]."""
        with torch.no_grad():
            self.table.uniform_(-scale, scale, generator=generator)

    def read_as(self, dtype: torch.dtype | None) -> None:
        """Read a copy of that type from now on, or the table itself. Who changes the table then calls `round`."""
        self.rounded = None if dtype is None else self.table.detach().to(dtype)

    def round(self) -> None:
        """Make the copy, if there is one, equal to the table again."""
        if self.rounded is not None:
            self.rounded.copy_(self.table.detach())

    def forward(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """[N, width] features of points [N, 3] in [0, 1]; `known` as in ops.encode."""
        return ops.encode(x, self.table, self.levels, self.gradient, known, self.rounded)
