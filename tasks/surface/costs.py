"""Time and memory of what every surface goes through: fewer faces, texture, kept files. Light."""

from __future__ import annotations

from tasks.surface.options import SurfaceOptions
from tasks.surface.tiers import planned


def baking_seconds(options: SurfaceOptions, photos: int, megapixels: float) -> float:
    """Seconds on two busy cores, measured: grows with faces, texels and photos."""
    tiers = planned(options.tiers, options.faces, options.texture_size)
    shapes = sum(2.0 + 12.0 * faces / 100_000 for faces in {tier.faces for tier in tiers})
    size = max(tier.texture_size for tier in tiers)
    baking = 3.0 * (size / 1024.0) ** 2 + photos * (0.15 + 0.1 * megapixels)
    files = sum(0.3 + 0.25 * (tier.texture_size / 1024.0) ** 2 for tier in tiers)
    return shapes + baking + files


def baking_memory_gb(options: SurfaceOptions) -> float:
    """Main memory in GB: the full mesh, and the texels with the photos that they chose."""
    size = max(tier.texture_size for tier in planned(options.tiers, options.faces, options.texture_size))
    return 1.5 + 2.0 * (size / 4096.0) ** 2
