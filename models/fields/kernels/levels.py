"""The lattices of a multiresolution hash encoding (Instant-NGP, Mueller et al. 2022, section 3)."""

from __future__ import annotations

import math
from typing import NamedTuple

PADDING = 16
"""Entries of a level are padded to a multiple of this, so that a level never shares a cache line with another."""


class Level(NamedTuple):
    """One resolution of the lattice."""

    resolution: int
    """Cells along an edge of the unit cube."""
    offset: int
    """First entry in the table."""
    size: int
    """Entries in the table; a power of two where they are hashed."""
    dense: bool
    """Whether each lattice point has an entry of its own."""


def level_table(levels: int, base_resolution: int, max_resolution: int, log2_table: int) -> tuple[Level, ...]:
    """The levels of a geometric series of resolutions from base to max.

    Coarse levels are dense, (resolution + 1)^3 entries padded to PADDING; fine ones hash into 2^log2_table entries.

    Raises:
        ValueError: fewer than 2^4 entries, or the base finer than the finest level.
    """
    if 1 << log2_table < PADDING or base_resolution > max_resolution:
        raise ValueError(
            f"expected log2_table >= 4 and base_resolution <= max_resolution, "
            f"found {log2_table}, {base_resolution}, {max_resolution}"
        )
    growth = math.exp((math.log(max_resolution) - math.log(base_resolution)) / max(levels - 1, 1))
    found: list[Level] = []
    offset = 0
    for number in range(levels):
        resolution = math.floor(base_resolution * growth**number + 1e-6)
        points = (resolution + 1) ** 3
        dense = points <= 1 << log2_table
        size = -(-points // PADDING) * PADDING if dense else 1 << log2_table
        found.append(Level(resolution, offset, size, dense))
        offset += size
    return tuple(found)


def entries(levels: tuple[Level, ...]) -> int:
    """Entries of the whole table."""
    return levels[-1].offset + levels[-1].size
