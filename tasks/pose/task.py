"""The entry point of the pose stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from models.capture_kind import CAPTURE_KINDS
from models.errors import ReasonCode
from models.quality import POSE_METRICS, Gate, GateOutcome, Verdict, apply_gates, merge_gates
from models.results import Reason, StageRequest, StageResult
from models.spec import AssetSpec, BatchSpec, MaskRole, ScaleKind
from models.stage import Given
from tasks import registry
from tasks.context import Context
from tasks.pose.base import Capture, Solution
from tasks.pose.capture import load_capture
from tasks.pose.options import PoseOptions

AFTER = ("ingest",)
OF_INPUT = {"format": "poses"}
MIN_PHOTOS = 3


def run(request: StageRequest, context: Context) -> StageResult:
    """Solve the cameras, judge them, and hand on pictures, poses and points.

    A capture that cannot be used is rejected here, with its true cause, before anything is spent on training.
    """
    method = registry.method(request.stage, request.method)
    options: PoseOptions = method.Options.model_validate(request.options)
    capture = load_capture(context)
    if not options.features_in_masks:
        capture = replace(capture, mask_dir=None)
    if len(capture.photos) < MIN_PHOTOS:
        message = f"expected {MIN_PHOTOS} usable photos or more, found {len(capture.photos)}"
        return _rejected(context, {"photos": len(capture.photos)}, (Reason.of(ReasonCode.TOO_FEW_IMAGES, message),))
    return judge(capture, method.solve(capture, options, context), options, context)


def default_method(given: Given) -> str:
    """`known` where cameras are given, `colmap` otherwise."""
    return "known" if "poses" in given.external else "colmap"


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """The gates on poses, the scale, the format of given cameras, and whether masks bound the features."""
    gates = merge_gates(CAPTURE_KINDS[asset.capture_kind].gates, batch.gates, asset.gates)
    implied: dict[str, Any] = {"gates": [gate for gate in gates if gate.metric in POSE_METRICS]}
    if asset.scale.kind is not ScaleKind.NONE:
        implied["scale"] = asset.scale
    if asset.poses:
        implied["format"] = asset.poses.format
    if asset.given_masks and asset.given_masks.role is MaskRole.OUTLINE:
        implied["features_in_masks"] = False
    return implied


def judge(capture: Capture, solution: Solution, options: PoseOptions, context: Context) -> StageResult:
    """Measure and gate a solution; write the stage's files unless it is rejected."""
    from tasks.pose import finish, write
    from tasks.pose.model import pose_metrics, read_model

    started = time.monotonic()
    model = read_model(solution.reconstruction, capture) if solution.reconstruction is not None else None
    metrics = pose_metrics(model, len(capture.photos))
    verdict, outcomes = apply_gates(options.gates, metrics)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    facts: dict[str, Any] = {"photos": len(capture.photos), "tried": solution.tried, **solution.notes}
    facts |= {name: round(value, 6) for name, value in metrics.items()}
    facts["points"] = len(model.points.xyz) if model else 0
    registered = {photo.name for photo in model.photos} if model else set()
    facts["unregistered"] = [photo.name for photo in capture.photos if photo.name not in registered]
    times = {"seconds": solution.seconds}
    if verdict is Verdict.REJECT or model is None or len(model.photos) < 2:
        reasons = true_reasons(failed, capture, solution, len(registered), options, context)
        return _rejected(context, facts, reasons, times)
    context.check()
    arranged = finish.arrange(model, solution, options, context)
    if arranged is None:
        message = "expected cameras that look at one thing and points around it, found neither"
        return _rejected(context, facts, (Reason.of(ReasonCode.NO_REGION, message),), times)
    poses = finish.pose_set(arranged, solution, options, context.request.seed)
    facts |= finish.arrangement_facts(arranged)
    facts["heldout"] = [image.name for image in poses.of_split("heldout")]
    write.write_poses(context.output, poses, arranged.model.points)
    write.write_lenses(context.output, arranged)
    write.write_pictures(arranged, poses, context)
    write.write_facts(context.output, facts)
    solution.seconds["finish"] = round(time.monotonic() - started, 2)
    return StageResult(facts=facts | times, verdict=verdict, reasons=gate_reasons(failed))


def gate_reasons(failed: list[GateOutcome]) -> tuple[Reason, ...]:
    """One reason for each metric that missed a gate: the most severe bound that it missed."""
    severe: dict[str, GateOutcome] = {}
    for outcome in sorted(failed, key=lambda outcome: outcome.gate.otherwise.severity):
        severe[outcome.gate.metric] = outcome
    return tuple(Reason.of(outcome.gate.reason, _message(outcome.gate, outcome.value)) for outcome in severe.values())


def true_reasons(
    failed: list[GateOutcome],
    capture: Capture,
    solution: Solution,
    registered: int,
    options: PoseOptions,
    context: Context,
) -> tuple[Reason, ...]:
    """The reasons of a rejection: too few registered photos, or flat ones, are symptoms; the cause comes first."""
    from tasks.pose.diagnose import explain
    from tasks.pose.evidence import gather
    from tasks.pose.unmasked import blame_masks

    symptoms = gate_reasons([outcome for outcome in failed if outcome.gate.otherwise is Verdict.REJECT])
    shallow = {ReasonCode.TOO_FEW_REGISTERED, ReasonCode.NO_PARALLAX, ReasonCode.SHORT_TRACKS}
    if registered >= 2 and not any(reason.code in shallow for reason in symptoms):
        return symptoms
    evidence = gather(solution.database, capture)
    cause = blame_masks(evidence, capture, options, context) or explain(evidence, registered)
    return (cause, *(reason for reason in symptoms if reason.code is not cause.code))


def _message(gate: Gate, value: float | None) -> str:
    return f"{gate.metric}: expected {gate.bound}, found {value:g}" if value is not None else gate.metric


def _rejected(
    context: Context, facts: dict[str, Any], reasons: tuple[Reason, ...], times: dict[str, Any] | None = None
) -> StageResult:
    from tasks.pose.write import write_facts

    write_facts(context.output, {**facts, "reasons": [reason.model_dump(mode="json") for reason in reasons]})
    return StageResult(facts=facts | (times or {}), verdict=Verdict.REJECT, reasons=reasons)
