"""The report: the page of figures that the quality stage left, with verdict, gates and settings filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from models.ladder import SteppedDown
from models.quality import Metric, Verdict
from models.results import Done
from models.stage import Stage
from models.verdict import Judgement
from tasks.report_page import SLOTS, fill, flat

if TYPE_CHECKING:
    from models.scale import MeasuredScale

VERDICT_TEXT = {
    Verdict.ACCEPT: ("Accepted", "Every gate holds."),
    Verdict.REVIEW: ("For review", "Usable, but a person should look at the points below."),
    Verdict.REJECT: ("Rejected", "Not fit for publication, for the reasons below."),
}
_KEY_FIGURES = (
    ("psnr_mesh_corrected", "Likeness of the mesh", "PSNR on held-out photos, colours corrected"),
    ("psnr_model_corrected", "Likeness of the model", "PSNR on held-out photos, colours corrected"),
    ("ssim_mesh", "Structure of the mesh", "SSIM on held-out photos"),
    ("fscore_1pct", "Shape", "F-score at 1 % of the size"),
    ("completeness_dense", "Complete", "of what stereo of held-out photos shows"),
    ("precision_dense", "Supported", "of the mesh, by the same stereo"),
    ("registered_share", "Photos placed", "cameras found"),
)
_COUNTS = frozenset({"components", "boundary_edges", "heldout_views", "registered_images"})


def render_report(
    page: str,
    judgement: Judgement,
    dones: Sequence[Done],
    scale: MeasuredScale,
    extent: Sequence[float],
    stepped_down: Mapping[Stage, SteppedDown],
) -> str:
    """The report as HTML.

    Args:
        page: the quality stage's, with slots.
        dones: the commits of the stages before, in order.
        extent: sides of the mesh's box in the capture's unit.
        stepped_down: stages that ran with smaller settings than asked for.

    Raises DigitizeError(unsupported_format) where the page is another version's.
    """
    from jinja2 import Environment, StrictUndefined

    metrics = {metric.name: metric for done in dones for metric in done.result.metrics}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = figure
    source = (resources.files("tasks.publish") / "report.html.j2").read_text(encoding="utf-8")
    environment.globals |= {
        "judgement": judgement,
        "text": VERDICT_TEXT[judgement.verdict],
        "metrics": metrics,
        "key_figures": key_figures(metrics, scale, extent),
        "stepped_down": [(stage, str(each)) for stage, each in stepped_down.items()],
        "settings": [_setting(done) for done in dones],
    }
    module: Any = environment.from_string(source).module
    parts = {name: str(getattr(module, f"part_{name}")()) for name in SLOTS if name != "title"}
    return fill(page, {**parts, "title": f" – {VERDICT_TEXT[judgement.verdict][0]}"})


def figure(metric: Metric) -> str:
    """A metric's value for people.

    >>> figure(Metric(name="registered_share", value=0.987)), figure(Metric(name="psnr_mesh", value=23.456, unit="dB"))
    ('98.7 %', '23.46 dB')
    """
    value, unit = metric.value, metric.unit
    if metric.name == "watertight":
        return "yes" if value else "no"
    if metric.name.startswith("chamfer") or metric.name == "camera_centre_error":
        return f"{value * 100:.3f} % of the diagonal"
    if metric.name.endswith("_share") or metric.name.startswith("coverage"):
        return f"{value * 100:.1f} %" if value == 0 or value > 5e-4 else f"{value * 100:.2g} %"
    if metric.name in _COUNTS:
        return f"{value:,.0f}{' ' + unit if unit else ''}"
    return f"{value:.{2 if unit else 3}f}{' ' + unit if unit else ''}"


def key_figures(
    metrics: Mapping[str, Metric], scale: MeasuredScale, extent: Sequence[float]
) -> list[tuple[str, str, str]]:
    """(label, figure, remark) of what a curator asks first."""
    rows = [(label, figure(metrics[name]), remark) for name, label, remark in _KEY_FIGURES if name in metrics]
    x, y, z = (scale.factor * side for side in extent)
    if scale.units == "metre":
        rows.append(("Size", f"{x * 100:.1f} × {y * 100:.1f} × {z * 100:.1f} cm", "width × height × depth"))
    else:
        rows.append(("Size", f"{x:.3g} × {y:.3g} × {z:.3g}", "no scale: arbitrary units"))
    return rows


def _setting(done: Done) -> dict[str, Any]:
    """Method, version and effective options of a stage, from its commit."""
    named = {"stage": done.stage, "method": done.method, "version": done.version, "seed": done.seed}
    return {**named, "options": flat(done.options)}
