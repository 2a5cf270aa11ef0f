"""The resolutions of a multiresolution hash encoding and where their tables lie."""

from __future__ import annotations

import math
from typing import NamedTuple


class Level(NamedTuple):
    """One resolution of the lattice."""

    resolution: int
    """Cells along an edge of the unit cube."""
    offset: int
    """First entry in the table."""
    size: int
    """Entries in the table."""
    dense: bool
    """Whether each lattice point has an entry of its own."""


def level_table(levels: int, base_resolution: int, max_resolution: int, log2_table: int) -> tuple[Level, ...]:
    """The levels of a geometric series of resolutions from base to max."""
    growth = math.exp((math.log(max_resolution) - math.log(base_resolution)) / max(levels - 1, 1))
    found: list[Level] = []
    offset = 0
    for number in range(levels):
        resolution = math.floor(base_resolution * growth**number + 1e-6)
        points = (resolution + 1) ** 3
        dense = points <= 1 << log2_table
        size = (points + 7) // 8 * 8 if dense else 1 << log2_table
        found.append(Level(resolution, offset, size, dense))
        offset += size
    return tuple(found)
