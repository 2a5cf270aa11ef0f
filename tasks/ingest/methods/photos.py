"""Photos, a zip of photos, or a video: decode, judge, and store upright pictures of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from tasks.ingest.options import IngestOptions

if TYPE_CHECKING:
    from models.results import StageResult
    from tasks.context import Context

VERSION = "4"
EXTERNAL = ("photos", "masks")


Options = IngestOptions

PRESETS: dict[str, dict[str, object]] = {
    "preview": {"max_edge_px": 960, "max_video_photos": 60},
    "standard": {"max_edge_px": 1600, "max_video_photos": 120},
    "high": {"max_edge_px": 4096, "max_video_photos": 200},
}

_SMALLER = {"max_edge_px": Lower(factor=0.7, least=640), "max_video_photos": Lower(factor=0.7, least=30)}
LADDER = Ladder(memory=_SMALLER, disk=_SMALLER, time=_SMALLER)


def resources(options: Options) -> Resources:
    """Two decoders, each with a picture of ordinary size in a few copies."""
    return Resources(cpus=2, memory_gb=3.0, scratch_gb=10.0, timeout_s=3600)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Decoding and measuring go with the photos' pixels, encoding with the stored ones."""
    stored = min(megapixels, 0.7e-6 * options.max_edge_px**2)
    return Estimate(
        seconds=1.0 + photos * (0.015 * megapixels + 0.02 * stored),
        memory_gb=0.3 + 0.02 * megapixels + 0.012 * stored,
    )


def ingest(context: Context, options: Options) -> StageResult:
    """Run the stage: see `tasks.ingest.pipeline`."""
    from tasks.ingest.pipeline import ingest_photos

    return ingest_photos(context, options)
