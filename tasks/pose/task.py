"""The entry point of the pose stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from models.errors import ReasonCode
from models.quality import DEFAULT_GATES, POSE_METRICS, Metric, Verdict, apply_gates
from models.results import Reason, StageRequest, StageResult
from models.spec import AssetSpec, BatchSpec, MaskRole
from models.stage import Given
from tasks import registry
from tasks.context import Context
from tasks.pose.base import Capture, Solution
from tasks.pose.capture import load_capture
from tasks.pose.options import PoseOptions

AFTER = ("ingest",)
OF_INPUT = {"format": "poses"}
METRICS = tuple(sorted(POSE_METRICS))
MIN_PHOTOS = 3
_ABOUT: dict[str, tuple[str, Literal["higher", "lower"], str]] = {
    "registered_share": ("", "higher", "Share of the accepted photos whose camera was found."),
    "registered_images": ("photos", "higher", "Photos whose camera was found."),
    "reprojection_error_px": ("px", "lower", "Mean distance of a sparse point's projection to where it was seen."),
    "track_length": ("photos", "higher", "Mean number of photos that see a sparse point."),
    "parallax_deg": ("deg", "higher", "Median angle between the rays that fix a sparse point."),
}
_FRAGMENTED = frozenset({ReasonCode.TOO_FEW_REGISTERED, ReasonCode.NO_PARALLAX, ReasonCode.SHORT_TRACKS})
"""Reasons that are symptoms: behind them lies what the photos show, or do not."""


def run(request: StageRequest, context: Context) -> StageResult:
    """Solve the cameras, measure them, and hand on pictures, poses and points.

    Where they are bad, the cause is looked for as well: gates may reject the asset by it before anything is trained.
    """
    method = registry.method(request.stage, request.method)
    options: PoseOptions = method.Options.model_validate(request.options)
    capture = load_capture(context)
    if not options.features_in_masks:
        capture = replace(capture, mask_dir=None)
    if len(capture.photos) < MIN_PHOTOS:
        message = f"expected {MIN_PHOTOS} usable photos or more, found {len(capture.photos)}"
        return _rejected(context, {"photos": len(capture.photos)}, (Reason.of(ReasonCode.TOO_FEW_IMAGES, message),))
    return hand_on(capture, method.solve(capture, options, context), options, context)


def default_method(given: Given) -> str:
    """`known` where cameras are given, `colmap` otherwise."""
    return "known" if "poses" in given.external else "colmap"


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """The format of given cameras, and whether masks bound the features."""
    implied: dict[str, Any] = {}
    if asset.poses:
        implied["format"] = asset.poses.format
    if asset.given_masks and asset.given_masks.role is MaskRole.OUTLINE:
        implied["features_in_masks"] = False
    return implied


def hand_on(capture: Capture, solution: Solution, options: PoseOptions, context: Context) -> StageResult:
    """Measure a solution and write the stage's files; a rejection where there is no model, or none around anything."""
    from tasks.pose import finish, write
    from tasks.pose.model import pose_metrics, read_model

    started = time.monotonic()
    model = read_model(solution.reconstruction, capture) if solution.reconstruction is not None else None
    values = pose_metrics(model, len(capture.photos))
    facts: dict[str, Any] = {"photos": len(capture.photos), "tried": solution.tried, **solution.notes}
    facts |= {name: round(value, 6) for name, value in values.items()}
    facts["points"] = len(model.points.xyz) if model else 0
    registered = {photo.name for photo in model.photos} if model else set()
    facts["unregistered"] = [photo.name for photo in capture.photos if photo.name not in registered]
    metrics = tuple(_metric(name, value) for name, value in sorted(values.items()))
    causes = _causes(values, capture, solution, len(registered), options, context)
    times = {"seconds": solution.seconds}
    if model is None or sum(not photo.alignment_only for photo in model.photos) < 2:
        return _rejected(context, facts, causes, times, metrics, causes)
    context.check()
    if solution.free_gauge and not causes and (reason := _turned(capture, solution)) is not None:
        return _rejected(context, facts, (reason,), times, metrics, (reason,))
    arranged = finish.arrange(model, solution, options, context)
    if arranged is None:
        message = "expected cameras that look at one thing and points around it, found neither"
        reason = Reason.of(ReasonCode.NO_REGION, message)
        return _rejected(context, facts, (reason,), times, metrics, causes)
    poses = finish.pose_set(arranged, solution, options, context.request.seed)
    facts |= finish.arrangement_facts(arranged)
    facts["heldout"] = [image.name for image in poses.of_split("heldout")]
    write.write_poses(context.output, poses, arranged.model.points)
    write.write_lenses(context.output, arranged)
    write.write_pictures(arranged, poses, context)
    write.write_facts(context.output, facts)
    solution.seconds["finish"] = round(time.monotonic() - started, 2)
    return StageResult(facts=facts | times, metrics=metrics, causes=causes)


def _metric(name: str, value: float) -> Metric:
    unit, better, about = _ABOUT[name]
    return Metric(name=name, value=value, unit=unit, better=better, about=about)


def _causes(
    values: Mapping[str, float],
    capture: Capture,
    solution: Solution,
    registered: int,
    options: PoseOptions,
    context: Context,
) -> tuple[Reason, ...]:
    """Why a capture fell apart: too few registered photos, or flat ones, are symptoms. Empty where it did not."""
    from tasks.pose.diagnose import explain
    from tasks.pose.evidence import gather
    from tasks.pose.unmasked import blame_masks

    missed = [each.gate for each in apply_gates(DEFAULT_GATES, values) if each.value is not None and not each.passed]
    shallow = any(gate.reason in _FRAGMENTED and gate.otherwise is Verdict.REJECT for gate in missed)
    if registered >= 2 and not shallow:
        return ()
    evidence = gather(solution.database, capture)
    return (blame_masks(evidence, capture, options, context) or explain(evidence, registered),)


def _turned(capture: Capture, solution: Solution) -> Reason | None:
    """Why a model is none in truth: the camera that it was made from only turned."""
    from tasks.pose.diagnose import turned_throughout
    from tasks.pose.evidence import Evidence, read_pairs

    return turned_throughout(Evidence(*read_pairs(solution.database, capture), framing_alike=0.0, subject_moves=False))


def _rejected(
    context: Context,
    facts: dict[str, Any],
    reasons: tuple[Reason, ...],
    times: dict[str, Any] | None = None,
    metrics: tuple[Metric, ...] = (),
    causes: tuple[Reason, ...] = (),
) -> StageResult:
    from tasks.pose.write import write_facts

    write_facts(context.output, {**facts, "reasons": [reason.model_dump(mode="json") for reason in reasons]})
    return StageResult(
        facts=facts | (times or {}), metrics=metrics, verdict=Verdict.REJECT, reasons=reasons, causes=causes
    )
