"""Metrics, gates and the verdict: `accept`, `review` or `reject`, always with reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from models.errors import ReasonCode
from models.record import Record


class Verdict(StrEnum):
    """What to do with an asset."""

    ACCEPT = "accept"
    REVIEW = "review"
    REJECT = "reject"

    @property
    def severity(self) -> int:
        """0 for accept, 1 for review, 2 for reject."""
        return list(Verdict).index(self)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe verdict; `accept` when there is none."""
    return max(verdicts, key=lambda verdict: verdict.severity, default=Verdict.ACCEPT)


class Metric(Record):
    """One measured figure."""

    name: str
    value: float
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"
    about: str = ""
    """One sentence: what it is and over what it was measured."""


class Gate(Record):
    """A bound on one metric and what happens when it is missed."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    otherwise: Literal[Verdict.REVIEW, Verdict.REJECT] = Field(default=Verdict.REVIEW)
    reason: ReasonCode = ReasonCode.LOW_FIDELITY
    when: Literal["required", "if_measured"] = "required"
    """What follows where the metric was not measured: `required` sends the asset to review, `if_measured` passes. Gates
    on truth are required only of assets whose truth is given."""

    @model_validator(mode="after")
    def _one_bound(self) -> Gate:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"gate on '{self.metric}': expected exactly one of at_least and at_most")
        return self

    def holds(self, value: float) -> bool:
        """Whether `value` passes. NaN never passes."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    @property
    def bound(self) -> str:
        """The bound as text, such as '>= 0.5'."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


class GateOutcome(Record):
    """One gate applied to one asset."""

    gate: Gate
    value: float | None
    """None when the metric was not measured."""
    passed: bool

    @property
    def consequence(self) -> Verdict:
        """What the outcome makes of the asset; a metric that is missing never rejects."""
        if self.passed:
            return Verdict.ACCEPT
        return Verdict.REVIEW if self.value is None else self.gate.otherwise


def apply_gates(gates: Iterable[Gate], values: Mapping[str, float]) -> tuple[GateOutcome, ...]:
    """Each gate's outcome on measured values, in order."""
    outcomes = []
    for gate in gates:
        value = values.get(gate.metric)
        passed = gate.when == "if_measured" if value is None else gate.holds(value)
        outcomes.append(GateOutcome(gate=gate, value=value, passed=passed))
    return tuple(outcomes)


DEFAULT_GATES: tuple[Gate, ...] = (
    # pose: checked before any training money is spent
    Gate(metric="registered_share", at_least=0.5, otherwise=Verdict.REJECT, reason=ReasonCode.TOO_FEW_REGISTERED),
    Gate(metric="registered_share", at_least=0.8, otherwise=Verdict.REVIEW, reason=ReasonCode.TOO_FEW_REGISTERED),
    Gate(metric="registered_images", at_least=6, otherwise=Verdict.REJECT, reason=ReasonCode.TOO_FEW_REGISTERED),
    Gate(
        metric="reprojection_error_px",
        at_most=2.5,
        when="if_measured",
        otherwise=Verdict.REJECT,
        reason=ReasonCode.HIGH_REPROJECTION_ERROR,
    ),
    Gate(
        metric="reprojection_error_px",
        at_most=1.5,
        when="if_measured",
        otherwise=Verdict.REVIEW,
        reason=ReasonCode.HIGH_REPROJECTION_ERROR,
    ),
    Gate(
        metric="track_length",
        at_least=2.2,
        when="if_measured",
        otherwise=Verdict.REJECT,
        reason=ReasonCode.SHORT_TRACKS,
    ),
    Gate(
        metric="track_length",
        at_least=2.8,
        when="if_measured",
        otherwise=Verdict.REVIEW,
        reason=ReasonCode.SHORT_TRACKS,
    ),
    Gate(
        metric="parallax_deg", at_least=2.0, when="if_measured", otherwise=Verdict.REJECT, reason=ReasonCode.NO_PARALLAX
    ),
    # quality: checked before anything is published
    Gate(
        metric="psnr_model_corrected",
        at_least=14.0,
        when="if_measured",
        otherwise=Verdict.REJECT,
        reason=ReasonCode.LOW_FIDELITY,
    ),
    Gate(
        metric="psnr_model_corrected",
        at_least=20.0,
        when="if_measured",
        otherwise=Verdict.REVIEW,
        reason=ReasonCode.LOW_FIDELITY,
    ),
    Gate(metric="psnr_mesh_corrected", at_least=10.0, otherwise=Verdict.REJECT, reason=ReasonCode.LOW_FIDELITY),
    Gate(metric="psnr_mesh_corrected", at_least=18.0, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_FIDELITY),
    # a mesh that shows much less than the model it was taken from is torn, or lies where the object is not
    Gate(metric="mesh_gap", at_most=3.0, when="if_measured", otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="coverage_mesh", at_least=0.4, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    # what photos that nothing was made from show, and what of the mesh they contradict (a lump that fills a hollow)
    Gate(
        metric="completeness_dense",
        at_least=0.9,
        when="if_measured",
        otherwise=Verdict.REVIEW,
        reason=ReasonCode.LOW_GEOMETRY,
    ),
    Gate(
        metric="precision_dense",
        at_least=0.9,
        when="if_measured",
        otherwise=Verdict.REVIEW,
        reason=ReasonCode.LOW_GEOMETRY,
    ),
    Gate(metric="fscore_1pct", at_least=0.5, otherwise=Verdict.REJECT, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="fscore_1pct", at_least=0.9, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="degenerate_share", at_most=0.01, otherwise=Verdict.REVIEW, reason=ReasonCode.MESH_DEFECT),
    Gate(metric="non_manifold_share", at_most=0.01, otherwise=Verdict.REVIEW, reason=ReasonCode.MESH_DEFECT),
    # a torn mesh may look right from where photos were taken: none is published unseen
    Gate(metric="watertight", at_least=1.0, otherwise=Verdict.REVIEW, reason=ReasonCode.MESH_DEFECT),
)
"""The gates of every batch. A specification adds its own or replaces these by metric and consequence. Required is what
the line measures of every asset; cameras that were given come without points, a mesh of stereo without a model."""


def merge_gates(*layers: Iterable[Gate]) -> tuple[Gate, ...]:
    """The default gates with each layer on top: a later gate replaces one of the same metric and consequence."""
    merged = {(gate.metric, gate.otherwise): gate for gate in DEFAULT_GATES}
    for layer in layers:
        merged |= {(gate.metric, gate.otherwise): gate for gate in layer}
    return tuple(merged.values())


POSE_METRICS = frozenset(
    {"registered_share", "registered_images", "reprojection_error_px", "track_length", "parallax_deg"}
)
"""Metrics that the pose stage measures: a gate on them is decided before anything is trained."""
TRUTH_METRICS = frozenset(
    {"chamfer", "chamfer_hull", "fscore_hull", "precision_1pct", "recall_1pct", "normal_consistency"}
    | {"camera_centre_error", "camera_rotation_error_deg"}
)
"""Metrics that need a truth, beside the F-scores."""


def needs_truth(metric: str) -> bool:
    """Whether a metric compares the asset with a known truth."""
    return metric in TRUTH_METRICS or metric.startswith("fscore_")
