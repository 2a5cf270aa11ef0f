"""The standard judgement: likeness on held-out photos, geometry against the truth, mesh checks, gates, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from models.ladder import Ladder, Lower, SteppedDown
from models.quality import DEFAULT_GATES, Gate
from models.record import Record
from models.resources import Estimate, Resources
from models.results import Stage, StageResult

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "2"


class Options(Record):
    """What is measured, how closely, and what must hold."""

    gates: tuple[Gate, ...] = DEFAULT_GATES
    """Bounds on metrics and what follows when one is missed; loosen them for difficult materials."""
    max_views: int = Field(default=8, ge=1)
    """Held-out photos that are measured, evenly spread; more make the means steadier and take longer."""
    max_edge_px: int = Field(default=800, ge=64)
    """Longer side of the comparison with the mesh; raise it when detail at full size matters."""
    field_edge_px: int = Field(default=480, ge=64)
    """Longer side of the comparison with the field; lower it where there is no GPU and time is short."""
    samples: int = Field(default=200_000, ge=1_000)
    """Samples a side of the geometry score; lower it only to try things out."""
    hull_resolution: int = Field(default=256, ge=0, le=1024)
    """Cells along the visual hull that is scored beside the mesh; 0 leaves the hull out."""
    hull_edge_px: int = Field(default=1000, ge=64)
    """Longer side of the silhouettes that carve the hull."""
    report_views: int = Field(default=4, ge=0)
    """Held-out photos shown in the report."""
    report_edge_px: int = Field(default=440, ge=64)
    """Longer side of the pictures in the report; its file grows with the square."""
    preview_px: int = Field(default=800, ge=64)
    """Side of `preview.jpg`."""
    still_px: int = Field(default=320, ge=32)
    """Side of the report's turntable pictures and of its pictures of the geometry's error."""
    viewer_faces: int = Field(default=80_000, ge=100)
    """Faces of the report's 3D view; a larger mesh is thinned out for it (never the published one)."""
    viewer_texture_px: int = Field(default=2048, ge=64)
    """Longer side of the texture in the report's 3D view."""
    stepped_down: dict[Stage, SteppedDown] = Field(default_factory=dict)
    """Stages that ran with smaller settings than asked for; the flow fills it in, the report shows it."""


PRESETS: dict[str, dict[str, object]] = {
    "preview": {"max_views": 6, "max_edge_px": 640, "field_edge_px": 640, "hull_edge_px": 640, "report_views": 3},
    "standard": {},
    "high": {
        "max_views": 12,
        "max_edge_px": 1200,
        "field_edge_px": 800,
        "hull_resolution": 512,
        "hull_edge_px": 1600,
        "report_views": 6,
    },
}

LADDER = Ladder(
    memory={"hull_resolution": Lower(factor=0.5, least=64), "max_edge_px": Lower(factor=0.7, least=320)},
    disk={"viewer_faces": Lower(factor=0.5, least=5000), "viewer_texture_px": Lower(factor=0.5, least=512)},
    time={"max_views": Lower(factor=0.5, least=2), "field_edge_px": Lower(factor=0.7, least=240)},
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
    """Time on two cores without a GPU, most of it the field's pictures; measured on two busy cores."""
    views = min(options.max_views, max(1, photos // 8))
    pixels = views * min(megapixels * 1e6, 0.75 * options.field_edge_px**2)
    hull = 10.0 * (options.hull_resolution / 256.0) ** 2
    return Estimate(seconds=15.0 + hull + 4e-4 * pixels, memory_gb=_memory_gb(options))


def _memory_gb(options: Options) -> float:
    return 3.0 + 3 * 4 * (options.hull_resolution + 2) ** 3 / 2**30


def judge_asset(options: Options, context: Context) -> StageResult:
    """Measure, judge and report; writes quality.json, report.html and preview.jpg."""
    from tasks.quality.evaluate import evaluate

    report = evaluate(options, context)
    facts: dict[str, Any] = {"metrics": report.values}
    return StageResult(verdict=report.verdict, reasons=report.reasons, facts=facts)
