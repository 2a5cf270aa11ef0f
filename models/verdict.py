"""The verdict on an asset, from the metrics that its stages committed and the gates of its specification.

Gates are no part of a stage's key: a changed bound judges again and computes nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.capture_kind import CAPTURE_KINDS
from models.errors import ReasonCode
from models.quality import Gate, GateOutcome, Metric, Verdict, apply_gates, merge_gates, needs_truth, worst
from models.record import Record
from models.results import Reason, StageResult
from models.spec import AssetSpec, BatchSpec


class Judgement(Record):
    """A verdict with what led to it."""

    verdict: Verdict = Verdict.ACCEPT
    reasons: tuple[Reason, ...] = ()
    outcomes: tuple[GateOutcome, ...] = ()
    """Of the gates that were applied."""

    @staticmethod
    def of_all(parts: Iterable[Judgement]) -> Judgement:
        """Several judgements as one: the worst verdict, all reasons and outcomes, each once."""
        parts = tuple(parts)
        return Judgement(
            verdict=worst(part.verdict for part in parts),
            reasons=tuple(dict.fromkeys(reason for part in parts for reason in part.reasons)),
            outcomes=tuple(dict.fromkeys(outcome for part in parts for outcome in part.outcomes)),
        )


def gates_of(batch: BatchSpec, asset: AssetSpec) -> tuple[Gate, ...]:
    """The gates of an asset: the default ones, those of its kind of capture, of the batch, and its own.

    Where no truth is given, gates on truth are not required.
    """
    gates = merge_gates(CAPTURE_KINDS[asset.capture_kind].gates, batch.gates, asset.gates)
    if asset.truth is not None:
        return gates
    return tuple(
        gate.model_copy(update={"when": "if_measured"}) if needs_truth(gate.metric) else gate for gate in gates
    )


def judge_stage(result: StageResult, gates: Sequence[Gate]) -> Judgement:
    """What a stage's own verdict and the gates on its metrics make of the asset.

    Reasons: the causes that the stage found where it or a gate rejects, one for each metric that missed a gate (the
    gravest that it missed), the stage's own.
    """
    metrics = {metric.name: metric for metric in result.metrics}
    mine = [gate for gate in gates if gate.metric in metrics]
    outcomes = apply_gates(mine, {name: metric.value for name, metric in metrics.items()})
    by_gates = worst(outcome.consequence for outcome in outcomes)
    causes = result.causes if Verdict.REJECT in (by_gates, result.verdict) else ()
    known = {cause.code for cause in causes}
    failed = [outcome for outcome in gravest(outcomes) if outcome.gate.reason not in known]
    by_metric = [missed(outcome, metrics[outcome.gate.metric]) for outcome in failed]
    return Judgement(
        verdict=worst((result.verdict, by_gates)),
        reasons=tuple(dict.fromkeys((*causes, *by_metric, *result.reasons))),
        outcomes=outcomes,
    )


def judge_missing(results: Iterable[StageResult], gates: Sequence[Gate]) -> Judgement:
    """What the required gates make of an asset on whose metrics no stage reported."""
    measured = {metric.name for result in results for metric in result.metrics}
    outcomes = apply_gates([gate for gate in gates if gate.metric not in measured], {})
    reasons = tuple(
        Reason.of(ReasonCode.NOT_MEASURED, f"review: expected {each.gate.metric} to be measured, found no value")
        for each in gravest(outcomes)
    )
    return Judgement(verdict=worst(each.consequence for each in outcomes), reasons=reasons, outcomes=outcomes)


def judge(results: Sequence[StageResult], gates: Sequence[Gate]) -> Judgement:
    """The verdict on an asset all of whose stages that measure are committed, in their order."""
    return Judgement.of_all([*(judge_stage(result, gates) for result in results), judge_missing(results, gates)])


def gravest(outcomes: Iterable[GateOutcome]) -> list[GateOutcome]:
    """The outcomes that failed, of each metric the gravest, in the order of the gates."""
    found: dict[str, GateOutcome] = {}
    for outcome in outcomes:
        before = found.get(outcome.gate.metric)
        if not outcome.passed and (before is None or before.consequence.severity < outcome.consequence.severity):
            found[outcome.gate.metric] = outcome
    return list(found.values())


def missed(outcome: GateOutcome, metric: Metric) -> Reason:
    """The reason for a bound that a metric missed."""
    unit, gate = f" {metric.unit}" if metric.unit else "", outcome.gate
    return Reason.of(
        gate.reason, f"{gate.otherwise}: expected {metric.name} {gate.bound}{unit}, found {metric.value:.4g}{unit}"
    )
