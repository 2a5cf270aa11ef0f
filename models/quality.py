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
    """None when the metric was not measured: the gate then does not apply."""
    passed: bool


def apply_gates(gates: Iterable[Gate], values: Mapping[str, float]) -> tuple[Verdict, tuple[GateOutcome, ...]]:
    """Apply gates to measured values.

    A gate whose metric was not measured does not apply (truth, for one, exists for few captures).

    Returns:
        the worst verdict of the gates that failed, and each gate's outcome in order.
    """
    outcomes = []
    for gate in gates:
        value = values.get(gate.metric)
        outcomes.append(GateOutcome(gate=gate, value=value, passed=value is None or gate.holds(value)))
    return worst(outcome.gate.otherwise for outcome in outcomes if not outcome.passed), tuple(outcomes)


DEFAULT_GATES: tuple[Gate, ...] = (
    # pose: checked before any training money is spent
    Gate(metric="registered_share", at_least=0.5, otherwise=Verdict.REJECT, reason=ReasonCode.TOO_FEW_REGISTERED),
    Gate(metric="registered_share", at_least=0.8, otherwise=Verdict.REVIEW, reason=ReasonCode.TOO_FEW_REGISTERED),
    Gate(metric="registered_images", at_least=6, otherwise=Verdict.REJECT, reason=ReasonCode.TOO_FEW_REGISTERED),
    Gate(
        metric="reprojection_error_px", at_most=2.5, otherwise=Verdict.REJECT, reason=ReasonCode.HIGH_REPROJECTION_ERROR
    ),
    Gate(
        metric="reprojection_error_px", at_most=1.5, otherwise=Verdict.REVIEW, reason=ReasonCode.HIGH_REPROJECTION_ERROR
    ),
    Gate(metric="track_length", at_least=2.2, otherwise=Verdict.REJECT, reason=ReasonCode.SHORT_TRACKS),
    Gate(metric="track_length", at_least=2.8, otherwise=Verdict.REVIEW, reason=ReasonCode.SHORT_TRACKS),
    Gate(metric="parallax_deg", at_least=2.0, otherwise=Verdict.REJECT, reason=ReasonCode.NO_PARALLAX),
    # quality: checked before anything is published
    Gate(metric="psnr_model_corrected", at_least=14.0, otherwise=Verdict.REJECT, reason=ReasonCode.LOW_FIDELITY),
    Gate(metric="psnr_model_corrected", at_least=20.0, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_FIDELITY),
    Gate(metric="psnr_mesh_corrected", at_least=10.0, otherwise=Verdict.REJECT, reason=ReasonCode.LOW_FIDELITY),
    Gate(metric="psnr_mesh_corrected", at_least=18.0, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_FIDELITY),
    # a mesh that shows much less than the model it was taken from is torn, or lies where the object is not
    Gate(metric="mesh_gap", at_most=3.0, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="coverage_mesh", at_least=0.4, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    # what photos that nothing was made from show, and what of the mesh they contradict (a lump that fills a hollow)
    Gate(metric="completeness_dense", at_least=0.9, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="precision_dense", at_least=0.9, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="fscore_1pct", at_least=0.5, otherwise=Verdict.REJECT, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="fscore_1pct", at_least=0.9, otherwise=Verdict.REVIEW, reason=ReasonCode.LOW_GEOMETRY),
    Gate(metric="degenerate_share", at_most=0.01, otherwise=Verdict.REVIEW, reason=ReasonCode.MESH_DEFECT),
    Gate(metric="non_manifold_share", at_most=0.01, otherwise=Verdict.REVIEW, reason=ReasonCode.MESH_DEFECT),
    # a torn mesh may look right from where photos were taken: none is published unseen
    Gate(metric="watertight", at_least=1.0, otherwise=Verdict.REVIEW, reason=ReasonCode.MESH_DEFECT),
)
"""The gates of every batch. A specification adds its own or replaces these by metric and consequence."""


def merge_gates(*layers: Iterable[Gate]) -> tuple[Gate, ...]:
    """The default gates with each layer on top: a later gate replaces one of the same metric and consequence."""
    merged = {(gate.metric, gate.otherwise): gate for gate in DEFAULT_GATES}
    for layer in layers:
        merged |= {(gate.metric, gate.otherwise): gate for gate in layer}
    return tuple(merged.values())


POSE_METRICS = frozenset(
    {"registered_share", "registered_images", "reprojection_error_px", "track_length", "parallax_deg"}
)
"""Metrics that the pose stage measures, and whose gates it applies."""
