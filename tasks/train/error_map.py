"""Where the photos are explained worst, so that more rays go there (Instant-NGP, Mueller et al. 2022, appendix E)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CELLS = 24
"""Cells of a photo's map along each edge."""
FORGET = 0.3
"""Weight of what was just seen in a cell's remembered error."""
FLOOR = 0.1
"""A cell counts at least that share of the mean: nothing is forgotten for good."""


class ErrorMap:
    """A coarse grid of remembered errors over each photo.

    Rays drawn by it are not weighted down again: that the bad parts count more is the purpose.

    Args:
        sizes: width and height of each photo in pixels; pixels are numbered photo by photo, row by row.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], device: str) -> None:
        self.sizes = torch.tensor(sizes, dtype=torch.int64, device=device)
        counts = self.sizes.prod(1)
        self.starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self.areas = (counts / counts.sum()).repeat_interleave(CELLS**2)
        self.errors = torch.ones(len(sizes) * CELLS**2, device=device)

    def draw(self, count: int, generator: torch.Generator, photos: Tensor | None = None) -> Tensor:
        """[count] int64 pixels: a cell by its error, then any pixel in it.

        Args:
            photos: [P] bool, those that may be drawn from; None for all.
        """
        shares = self.errors.clamp(min=FLOOR * float(self.errors.mean()) + 1e-8) * self.areas
        if photos is not None:
            shares = (shares.view(len(photos), -1) * photos[:, None]).view(-1)
        ladder = shares.double().cumsum(0)
        at, u, v = torch.rand(3, count, generator=generator, device=ladder.device, dtype=torch.float64)
        cell = torch.searchsorted(ladder, at * ladder[-1], right=True).clamp(max=len(ladder) - 1)
        photo, inside = cell // CELLS**2, cell % CELLS**2
        width, height = self.sizes[photo].unbind(1)
        column = ((inside % CELLS + u) / CELLS * width).long().clamp(max=width - 1)
        row = ((inside // CELLS + v) / CELLS * height).long().clamp(max=height - 1)
        index: Tensor = self.starts[photo] + row * width + column
        return index

    def cells_of(self, index: Tensor) -> Tensor:
        """[R] int64 numbers of the cells that pixels [R] lie in."""
        photo = torch.bucketize(index, self.starts, right=True) - 1
        width, height = self.sizes[photo].unbind(1)
        local = index - self.starts[photo]
        row = (2 * (local // width) + 1) * CELLS // (2 * height)
        return (photo * CELLS + row) * CELLS + (2 * (local % width) + 1) * CELLS // (2 * width)

    @torch.no_grad()
    def note(self, index: Tensor, error: Tensor) -> None:
        """Remember the errors [R] of pixels [R]."""
        cell = self.cells_of(index)
        total = torch.zeros_like(self.errors).scatter_add_(0, cell, error)
        seen = torch.zeros_like(self.errors).scatter_add_(0, cell, torch.ones_like(error))
        mean = total / seen.clamp(min=1.0)
        self.errors = torch.where(seen > 0, self.errors.lerp(mean, FORGET), self.errors)
