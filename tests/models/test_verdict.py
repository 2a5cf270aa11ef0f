"""The verdict from what stages committed: gates, causes, and what nobody measured."""

from __future__ import annotations

from models.errors import ReasonCode
from models.quality import DEFAULT_GATES, Gate, Metric, Verdict
from models.results import Reason, StageResult
from models.spec import AssetSpec, BatchSpec, Scale
from models.verdict import gates_of, judge, judge_stage

SHARE = Gate(metric="share", at_least=0.8, reason=ReasonCode.TOO_FEW_REGISTERED)
GRAVE = SHARE.model_copy(update={"at_least": 0.5, "otherwise": Verdict.REJECT})


def measured(name: str, value: float, unit: str = "") -> Metric:
    return Metric(name=name, value=value, unit=unit)


def test_each_metric_gives_the_reason_of_the_gravest_bound_that_it_missed() -> None:
    found = judge_stage(StageResult(metrics=(measured("share", 0.3, "photos"),)), (GRAVE, SHARE))
    assert found.verdict is Verdict.REJECT and [outcome.passed for outcome in found.outcomes] == [False, False]
    assert [each.message for each in found.reasons] == ["reject: expected share >= 0.5 photos, found 0.3 photos"]
    mild = judge_stage(StageResult(metrics=(measured("share", 0.7),)), (GRAVE, SHARE))
    assert mild.verdict is Verdict.REVIEW and [each.passed for each in mild.outcomes] == [True, False]
    assert [each.message for each in mild.reasons] == ["review: expected share >= 0.8, found 0.7"]


def test_the_cause_comes_first_and_stands_for_its_symptom_where_a_gate_rejects() -> None:
    cause = Reason.of(ReasonCode.NO_OVERLAP, "two rooms")
    poor = StageResult(metrics=(measured("share", 0.3),), causes=(cause,))
    assert [each.code for each in judge_stage(poor, (GRAVE, SHARE)).reasons] == ["no_overlap", "too_few_registered"]
    # a looser gate does not reject: then the cause is nobody's concern
    assert judge_stage(poor, (SHARE.model_copy(update={"at_least": 0.2}),)).reasons == ()
    same = Reason.of(ReasonCode.TOO_FEW_REGISTERED, "12 of 40 are joined")
    alike = judge_stage(poor.model_copy(update={"causes": (same,)}), (GRAVE, SHARE))
    assert alike.reasons == (same,)


def test_a_stage_may_reject_whatever_the_gates_say() -> None:
    reason = Reason.of(ReasonCode.NOT_FINITE, "expected finite positions")
    found = judge([StageResult(verdict=Verdict.REJECT, reasons=(reason,))], ())
    assert found.verdict is Verdict.REJECT and found.reasons == (reason,)


def test_the_cause_comes_first_where_the_stage_rejects_and_gates_only_doubt() -> None:
    cause = Reason.of(ReasonCode.NO_PARALLAX, "all pairs differ by a rotation")
    result = StageResult(metrics=(measured("share", 0.7),), verdict=Verdict.REJECT, reasons=(cause,), causes=(cause,))
    assert [each.code for each in judge_stage(result, (GRAVE, SHARE)).reasons] == ["no_parallax", "too_few_registered"]


def test_what_is_required_and_not_measured_is_for_review() -> None:
    results = [StageResult(metrics=(measured("share", 1.0),)), StageResult()]
    gates = (SHARE, Gate(metric="psnr", at_least=20), Gate(metric="gap", at_most=3, when="if_measured"))
    found = judge(results, gates)
    assert found.verdict is Verdict.REVIEW and [each.code for each in found.reasons] == [ReasonCode.NOT_MEASURED]
    assert found.reasons[0].message == "review: expected psnr to be measured, found no value"
    assert judge([*results, StageResult(metrics=(measured("psnr", 21.0),))], gates).verdict is Verdict.ACCEPT


def test_gates_on_truth_are_required_where_truth_is_given() -> None:
    asset = AssetSpec(id="pot", photos="photos", scale=Scale())
    batch = BatchSpec(name="b", assets=(asset,), gates=(Gate(metric="chamfer", at_most=0.01),))
    without = {gate.metric: gate.when for gate in gates_of(batch, asset)}
    known = {gate.metric: gate.when for gate in gates_of(batch, asset.model_copy(update={"truth": "truth"}))}
    assert (without["chamfer"], without["fscore_1pct"]) == ("if_measured", "if_measured")
    assert (known["chamfer"], known["fscore_1pct"]) == ("required", "required")
    assert without["watertight"] == "required" and known["mesh_gap"] == "if_measured"
    assert {gate.metric for gate in DEFAULT_GATES} <= set(without)
