"""The options of dense stereo. Light: no numpy."""

from __future__ import annotations

from pydantic import Field

from models.record import Record


class DenseOptions(Record):
    """How depth maps are made and fused."""

    edge_px: int = Field(default=960, ge=64)
    """Long edge of the depth maps in pixels; photos are never enlarged. Time and memory grow with its square. Raise it
    when fine relief is missing, lower it when time is short or surfaces have little texture."""
    views: int = Field(default=6, ge=2, le=8)
    """Photos that each photo is compared with, at most. Raise it for captures with many occlusions."""
    iterations: int = Field(default=4, ge=2, le=12)
    """Sweeps at the coarsest size. Raise it when maps stay noisy where there is texture."""
    levels: int = Field(default=3, ge=1, le=5)
    """Sizes of a photo, each half of the one before. Raise it for large parts without texture."""
    geometric_rounds: int = Field(default=3, ge=0, le=6)
    """Rounds in which depth maps are judged by each other. Lower it to save time on well-textured objects."""
    planar_weight: float = Field(default=1.0, ge=0)
    """Cost of leaving, where a photo is plain, the planes between the pixels around; 0 for no such planes. Lower it for
    smooth, round objects of one colour."""
    least_views: int = Field(default=2, ge=1, le=8)
    """Other photos that must agree with a point. Lower it for captures with few photos, raise it against noise."""
    least_confidence: float = Field(default=0.3, ge=0, lt=1)
    """Correlation below which a pixel has no depth. Raise it against wrong depth on plain surfaces."""
    photo_memory_gb: float = Field(default=1.0, gt=0)
    """Main memory for photos and depth maps that are kept while others are made."""
