"""The standard measurement: likeness on held-out photos, geometry against the truth, mesh checks, and their page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from models.results import StageResult
from tasks.quality.options import QualityOptions

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "11"
EXTERNAL = ("truth",)


Options = QualityOptions

PRESETS: dict[str, dict[str, object]] = {
    "preview": {"max_views": 6, "max_edge_px": 640, "model_edge_px": 640, "hull_edge_px": 640, "report_views": 3},
    "standard": {},
    "high": {
        "max_views": 12,
        "max_edge_px": 1200,
        "model_edge_px": 800,
        "hull_resolution": 512,
        "hull_edge_px": 1600,
        "report_views": 6,
    },
}

LADDER = Ladder(
    memory={"hull_resolution": Lower(factor=0.5, least=64), "max_edge_px": Lower(factor=0.7, least=320)},
    disk={"viewer_faces": Lower(factor=0.5, least=5000), "viewer_texture_px": Lower(factor=0.5, least=512)},
    time={"max_views": Lower(factor=0.5, least=2), "model_edge_px": Lower(factor=0.7, least=240)},
)


def resources(options: Options) -> Resources:
    """Needs of the stage: the hull's grid and the largest picture's rays set the memory."""
    return Resources(
        cpus=2,
        gpu_memory_gb=4,
        memory_gb=_memory_gb(options),
        scratch_gb=2,
        timeout_s=max(1200.0, 8.0 * estimate(options, 500, 24.0).seconds),
    )


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Time on two cores without a GPU, most of it the model's pictures; measured on two busy cores."""
    views = min(options.max_views, max(1, photos // 8))
    pixels = views * min(megapixels * 1e6, 0.75 * options.model_edge_px**2)
    hull = 10.0 * (options.hull_resolution / 256.0) ** 2
    return Estimate(seconds=15.0 + hull + 4e-4 * pixels, memory_gb=_memory_gb(options))


def _memory_gb(options: Options) -> float:
    return 3.0 + 3 * 4 * (options.hull_resolution + 2) ** 3 / 2**30


def measure_asset(options: Options, context: Context) -> StageResult:
    """Measure; writes quality.json, figures.html and preview.jpg."""
    from models.quality import Verdict
    from tasks.quality.collect import unfit
    from tasks.quality.evaluate import evaluate

    report = evaluate(options, context)
    reasons = unfit(report.mesh)
    verdict = Verdict.REJECT if reasons else Verdict.ACCEPT
    return StageResult(metrics=report.metrics, verdict=verdict, reasons=reasons, facts={"metrics": report.values})
