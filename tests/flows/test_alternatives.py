"""Several methods for a stage: the next one is tried when a gate rejects, as a function of commits alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.asset import finished_status, run_asset
from flows.forecast.estimate import StageOutlook, forecast
from flows.forecast.history import History
from flows.housekeeping.forget import forget_from
from flows.plan.batch_plan import plan_batch
from flows.plan.chains import MOST_CHAINS
from flows.plan.committed import AssetPlan, BatchPlan
from flows.plan.walk import all_walks, walk
from flows.plan.walks import Walks
from flows.status.board import Board
from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from models.quality import Verdict
from models.results import Done, Reason, StageRequest, StageResult
from models.spec_yaml import load_spec
from models.stage import Given, Stage
from models.status import AssetStatus, Phase, StageState
from tasks import registry
from tasks.commit import run_stage
from tasks.stereo import kernel
from tests.flows.cli_stubs import write_batch
from tests.flows.helpers import make_plan
from tests.support import STAGES, make_context


class Line:
    """Stages that commit at once; `rejects` names (stage, method of train or pose) pairs that the stage rejects,
    `reviews` those that it sends to review, with a number of reasons."""

    def __init__(
        self, folder: Path, *rejects: tuple[str, str], reviews: dict[tuple[str, str], int] | None = None
    ) -> None:
        self.store, self.folder, self.rejects = FolderStore(folder / "store"), folder, rejects
        self.reviews = reviews or {}
        self.ran: list[str] = []
        self.asked: dict[str, dict[str, Any]] = {}

    def plan(self, **methods: tuple[str, ...]) -> AssetPlan:
        """A plan with these methods for these stages, chains in the planner's order."""
        plan = make_plan(self.folder / "store", {"mug": {}}).assets[0]
        chains = [plan.stages]
        for name, names in methods.items():
            stage = Stage(name)
            chains = [{**chain, stage: replace(chain[stage], method=each)} for chain in chains for each in names]
        publish = Stage.PUBLISH
        chains = [{**chain, publish: replace(chain[publish], filled_in=("rejected",))} for chain in chains]
        return AssetPlan.of_chains("mug", "demo", 0, chains, {}, gates=())

    def __call__(self, request: StageRequest) -> Done:
        self.ran.append(f"{request.stage} {request.method}")
        self.asked[str(request.stage)] = request.options
        below = [self._method_of(name, request) for name in ("pose", "train")]
        rejected = any((str(request.stage), method) in self.rejects for method in (*below, request.method))
        result = StageResult()
        if rejected:
            reason = Reason.of(ReasonCode.LOW_FIDELITY, f"{request.stage} of {request.method}")
            result = StageResult(verdict=Verdict.REJECT, reasons=(reason,))
        for method in below:
            if count := self.reviews.get((str(request.stage), method), 0):
                said = (f"{request.stage} of {method}, {number}" for number in range(count))
                reasons = tuple(Reason.of(ReasonCode.LOW_GEOMETRY, each) for each in said)
                result = StageResult(verdict=Verdict.REVIEW, reasons=reasons)
        context = make_context(request, self.folder / request.key, self.store)

        def entry(request: StageRequest, context: Any) -> StageResult:
            (context.output / "key.txt").write_text(request.key)
            return result

        return run_stage(entry, request, context)

    def _method_of(self, stage: str, request: StageRequest) -> str:
        if stage not in request.inputs:
            return ""
        prefix = request.inputs[stage].uri.removeprefix("store:").partition("/attempts/")[0]
        return Done.model_validate_json(self.store.get_bytes(f"{prefix}/DONE.json") or b"").method

    def run(self, plan: AssetPlan) -> AssetStatus:
        self.ran.clear()
        return run_asset(plan, self.store, Board("demo"), self, "run-1")


def test_the_next_method_is_tried_when_a_later_gate_rejects(tmp_path: Path) -> None:
    line = Line(tmp_path, ("quality", "sharp"))
    plan = line.plan(train=("sharp", "soft"))
    status = line.run(plan)
    assert status.phase is Phase.DONE and status.verdict is Verdict.ACCEPT and status.reasons == ()
    assert line.ran == [
        *(
            "ingest stub",
            "pose stub",
            "mask stub",
            "train sharp",
            "surface stub",
            "scale stub",
            "export stub",
            "quality stub",
        ),
        *("train soft", "surface stub", "scale stub", "export stub", "quality stub", "publish stub"),
    ]
    (tried,) = status.rejected
    assert (tried.methods, tried.stage) == ({Stage.TRAIN: "sharp"}, Stage.QUALITY)
    assert str(tried) == "train sharp: rejected by quality"
    assert tried.reasons[0].code is ReasonCode.LOW_FIDELITY
    assert line.asked["publish"]["rejected"] == [tried.model_dump(mode="json")]
    assert [status.stages[stage].state for stage in STAGES] == [StageState.COMMITTED] * len(STAGES)


def test_commits_alone_tell_which_method_is_in_use(tmp_path: Path) -> None:
    line = Line(tmp_path, ("quality", "sharp"))
    plan = line.plan(train=("sharp", "soft"))
    status = line.run(plan)
    found = walk(plan, line.store)
    assert found.request is None and found.plan.stages[Stage.TRAIN].method == "soft"
    told = finished_status(plan, found)
    assert (told.phase, told.verdict, told.rejected) == (status.phase, status.verdict, status.rejected)
    assert {stage: each.key for stage, each in told.stages.items()} == {
        stage: each.key for stage, each in status.stages.items()
    }
    assert line.run(plan).phase is Phase.DONE and line.ran == []
    batch = BatchPlan("demo", str(tmp_path / "store"), (_with_photos(plan),), {})
    (forecasted,) = forecast(batch, Walks(batch, line.store), History(None))
    assert {forecasted.stages[stage].outlook for stage in STAGES} == {StageOutlook.CACHED}
    assert forecasted.stages[Stage.TRAIN].method == "soft"
    assert forecasted.choices == {Stage.TRAIN: ("sharp", "soft")} and len(forecasted.tried) == 1


def test_what_would_be_reviewed_waits_for_the_next_method(tmp_path: Path) -> None:
    line = Line(tmp_path, reviews={("quality", "sharp"): 1})
    plan = line.plan(train=("sharp", "soft"))
    status = line.run(plan)
    assert status.verdict is Verdict.ACCEPT and [str(each) for each in status.rejected] == [
        "train sharp: sent to review by quality"
    ]
    assert line.ran[-6:] == ["train soft", "surface stub", "scale stub", "export stub", "quality stub", "publish stub"]
    assert line.ran.count("publish stub") == 1
    assert line.run(plan).verdict is Verdict.ACCEPT and line.ran == []


@pytest.mark.parametrize(("sharp", "soft", "best"), [(1, 2, "sharp"), (1, 1, "sharp"), (2, 1, "soft")])
def test_of_methods_that_are_all_to_be_reviewed_the_best_goes_on(
    tmp_path: Path, sharp: int, soft: int, best: str
) -> None:
    line = Line(tmp_path, reviews={("quality", "sharp"): sharp, ("quality", "soft"): soft})
    plan = line.plan(train=("sharp", "soft"))
    status = line.run(plan)
    assert status.phase is Phase.DONE and status.verdict is Verdict.REVIEW and len(status.reasons) == 1
    other = "soft" if best == "sharp" else "sharp"
    assert [str(each) for each in status.rejected] == [f"train {other}: sent to review by quality"]
    assert line.ran[-1] == "publish stub" and line.ran.count("publish stub") == 1
    found = walk(plan, line.store)
    assert found.request is None and found.plan.stages[Stage.TRAIN].method == best
    assert line.run(plan).verdict is Verdict.REVIEW and line.ran == []


def test_review_is_better_than_rejection(tmp_path: Path) -> None:
    line = Line(tmp_path, ("quality", "soft"), reviews={("quality", "sharp"): 3})
    status = line.run(line.plan(train=("sharp", "soft")))
    assert status.phase is Phase.DONE and status.verdict is Verdict.REVIEW and len(status.reasons) == 3


def _with_photos(plan: AssetPlan) -> AssetPlan:
    from models.results import ArtifactRef

    return replace(plan, sources={"photos": ArtifactRef(digest="0", uri="photos.zip")})


def test_a_killed_run_goes_on_with_the_method_that_it_was_at(tmp_path: Path) -> None:
    line = Line(tmp_path, ("quality", "sharp"))
    plan = line.plan(train=("sharp", "soft"))
    done = line.__call__

    def dies(request: StageRequest) -> Done:
        if request.method == "soft":
            raise DigitizeError(ReasonCode.CANCELLED, "stop", retryable=True)
        return done(request)

    status = run_asset(plan, line.store, Board("demo"), dies, "run-1")
    assert status.phase is Phase.CANCELLED and status.rejected
    assert status.stages[Stage.SURFACE].state is StageState.PENDING
    assert line.run(plan).phase is Phase.DONE
    assert line.ran == ["train soft", "surface stub", "scale stub", "export stub", "quality stub", "publish stub"]


def test_all_rejected_is_a_rejection_with_what_was_tried(tmp_path: Path) -> None:
    line = Line(tmp_path, ("quality", "sharp"), ("surface", "soft"))
    plan = line.plan(train=("sharp", "soft"))
    status = line.run(plan)
    assert status.phase is Phase.REJECTED and "publish stub" not in line.ran
    assert status.reasons[0].message == "surface of stub" and [str(each) for each in status.rejected] == [
        "train sharp: rejected by quality"
    ]
    assert line.run(plan).phase is Phase.REJECTED and line.ran == []


def test_the_last_stage_with_several_methods_varies_first(tmp_path: Path) -> None:
    line = Line(tmp_path, ("quality", "sharp"), ("train", "soft"), ("pose", "quick"))
    plan = line.plan(pose=("quick", "careful"), train=("sharp", "soft", "plain"))
    status = line.run(plan)
    assert status.phase is Phase.DONE
    assert [each for each in line.ran if each.startswith(("pose", "train"))] == [
        *("pose quick", "pose careful", "train sharp", "train soft", "train plain")
    ]
    assert [str(each) for each in status.rejected] == [
        "pose quick, train sharp: rejected by pose",
        "pose careful, train sharp: rejected by quality",
        "pose careful, train soft: rejected by train",
    ]


def test_a_failure_is_no_rejection(tmp_path: Path) -> None:
    line = Line(tmp_path)

    def fails(request: StageRequest) -> Done:
        if request.method == "sharp":
            raise DigitizeError(ReasonCode.OUT_OF_MEMORY, "too large")
        return line(request)

    status = run_asset(line.plan(train=("sharp", "soft")), line.store, Board("demo"), fails, "run-1")
    assert status.phase is Phase.QUARANTINED and status.rejected == ()


def test_doing_a_stage_again_starts_with_the_first_method(tmp_path: Path) -> None:
    line = Line(tmp_path, ("quality", "sharp"))
    plan = line.plan(train=("sharp", "soft"))
    line.run(plan)
    assert len(all_walks(plan, line.store)) == 2
    assert forget_from(plan, line.store, Stage.TRAIN) == list(STAGES[3:])
    line.run(plan)
    assert line.ran[0] == "train sharp" and line.ran[-1] == "publish stub"


# --- the specification ----------------------------------------------------------------------------------------------


def planned(folder: Path, stages: Any = None, asset: Any = None) -> AssetPlan:
    path = write_batch(folder)
    spec = yaml.safe_load(path.read_text())
    if stages is not None:
        spec["stages"] = stages
    spec["assets"][0] |= asset or {}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return plan_batch(load_spec(path)).assets[0]


def test_a_list_of_methods_becomes_chains(tmp_path: Path) -> None:
    stages = {"train": ["hash_sdf", {"method": "hash_density", "options": {"steps": 7}}]}
    plan = planned(tmp_path, stages)
    assert plan.choices == {Stage.TRAIN: ("hash_sdf", "hash_density")}
    assert [each.stages[Stage.TRAIN].options["steps"] for each in plan.alternatives] == [15000, 7]
    assert [each.stages[Stage.TRAIN].method for each in plan.alternatives] == ["hash_sdf", "hash_density"]
    assert all(each.fallbacks == () for each in plan.alternatives)


@pytest.mark.parametrize("order", [["hash_density", "mvs"], ["mvs", "hash_density"]], ids=["last", "first"])
def test_a_choice_that_cannot_run_here_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[str]
) -> None:
    monkeypatch.setattr(kernel, "library", lambda build=None: None)
    plan = planned(tmp_path / "field", {"train": order})
    assert plan.choices == {} and plan.stages[Stage.TRAIN].method == "hash_density" and Stage.DENSE not in plan.stages
    asked = planned(tmp_path / "mesh", {"train": "mvs"})  # asked for outright: the run says what is missing
    assert asked.stages[Stage.TRAIN].method == "mvs"
    monkeypatch.setattr(kernel, "library", lambda build=None: object())
    both = planned(tmp_path / "both", {"train": order})
    assert both.choices[Stage.TRAIN] == tuple(order)
    assert all(Stage.DENSE in each.stages[Stage.TRAIN].inputs for each in both.alternatives)
    field = both.alternatives[order.index("hash_density")].stages[Stage.TRAIN]
    assert field.options["dense_prior"] is True
    off = [{"method": "hash_density", "options": {"dense_prior": False}} if n == "hash_density" else n for n in order]
    without = planned(tmp_path / "without", {"train": off}).alternatives[order.index("hash_density")]
    assert Stage.DENSE not in without.stages


def test_what_a_turntable_implies_matters_to_methods_that_know_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.png").write_bytes(b"png")
    masks = {"path": str(tmp_path / "m"), "role": "object"}
    plan = planned(tmp_path, {"train": ["mvs", "hash_sdf"]}, {"capture_kind": "turntable", "masks": masks})
    mesh, field = (each.stages[Stage.TRAIN] for each in plan.alternatives)
    assert "mask_use" not in mesh.options and field.options["mask_use"] == "empty"


def test_an_asset_s_own_choice_replaces_the_list_and_its_options_go_on_top(tmp_path: Path) -> None:
    stages = {"train": ["hash_sdf", {"method": "hash_density", "options": {"steps": 7}}]}
    own = planned(tmp_path / "own", stages, {"stages": {"train": {"method": "hash_density"}}})
    assert own.choices == {} and own.stages[Stage.TRAIN].options["steps"] == 7
    top = planned(tmp_path / "top", stages, {"stages": {"train": {"options": {"seconds": 9}}}})
    assert [each.stages[Stage.TRAIN].options["seconds"] for each in top.alternatives] == [9, 9]


def test_a_stage_that_needs_others_brings_them_and_nothing_more(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert plan.skipped == (Stage.DENSE,) and tuple(plan.stages) == STAGES
    assert plan.stages[Stage.MASK].inputs == (Stage.POSE,)
    assert plan.stages[Stage.TRAIN].inputs == (Stage.POSE, Stage.MASK)
    assert plan.stages[Stage.SURFACE].inputs == (Stage.POSE, Stage.MASK, Stage.TRAIN)
    assert plan.stages[Stage.SCALE].inputs == (Stage.POSE, Stage.MASK)
    assert plan.stages[Stage.EXPORT].inputs == (Stage.POSE, Stage.MASK, Stage.SURFACE, Stage.SCALE)
    assert plan.stages[Stage.QUALITY].inputs == STAGES[:5]
    assert plan.stages[Stage.PUBLISH].inputs == STAGES[:8]


def test_masks_are_found_where_none_are_given(tmp_path: Path) -> None:
    found = {}
    for word in ("auto", "geometry", "none"):
        (tmp_path / word).mkdir()
        plan = planned(tmp_path / word, None, {"masks": word})
        found[word] = plan.stages[Stage.MASK].method if Stage.MASK in plan.stages else plan.skipped
    best = registry.default_method(Stage.MASK, Given("rings"))
    assert found == {"auto": best, "geometry": "geometry", "none": (Stage.MASK, Stage.DENSE)}
    masks = tmp_path / "drawn" / "masks"
    masks.mkdir(parents=True)
    (masks / "p0.png").write_bytes(b"m")
    drawn = planned(tmp_path / "drawn", None, {"masks": {"path": str(masks)}})
    assert drawn.skipped == (Stage.MASK, Stage.DENSE) and drawn.stages[Stage.TRAIN].inputs == (Stage.POSE,)


def test_a_method_of_the_mask_stage_can_be_chosen(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"mask": ["geometry", {"method": "saliency", "options": {"max_undecided": 0.2}}]})
    assert plan.choices == {Stage.MASK: ("geometry", "saliency")}
    assert "weights:u2netp" in plan.alternatives[1].sources


@pytest.mark.parametrize(
    ("stages", "asset", "message"),
    [
        ({"denser": {}}, {}, "stages.denser: expected one of the stages ingest, pose, mask, dense, train"),
        ({"surface": {"method": "mesh"}}, {}, "takes mesh from stage train, found 'hash_density'"),
        ({"pose": {"method": "colmap"}}, {"poses": {"path": "p.json"}}, "a method that reads poses, found none among"),
        ({}, {"inputs": {"notes": "n.txt"}}, "expected a method that reads notes"),
        ({}, {"capture_kind": "few"}, "capture_kind: expected 'rings' or 'turntable', found 'few'"),
        ({"train": []}, {}, "stages.train"),
        ({"train": ["hash_sdf", "hash_sdf2"]}, {}, "stages.train[1].method: expected a train method that is built"),
        ({"train": ["nerf", {"method": "nerf", "options": {"x": 1}}]}, {}, "stages.train[1].options.x: no such key"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path, stages: Any, asset: Any, message: str) -> None:
    with pytest.raises(DigitizeError) as caught:
        planned(tmp_path, stages, asset)
    assert message in caught.value.message and (caught.value.path or "").rpartition(":")[2].isdigit()


def test_too_many_combinations_are_refused(tmp_path: Path) -> None:
    trains = [{"method": "nerf", "options": {"steps": 10 + each}} for each in range(5)]
    poses = [{"method": "colmap", "options": {"max_features": 600 + each}} for each in range(4)]
    assert len(trains) * len(poses) > MOST_CHAINS
    with pytest.raises(DigitizeError, match="at most 16 combinations"):
        planned(tmp_path, {"pose": poses, "train": trains})


def test_a_turntable_asks_for_more_photos_and_drops_what_masks_leave_out(tmp_path: Path) -> None:
    (tmp_path / "rings").mkdir()
    still = planned(tmp_path / "rings")
    assert still.stages[Stage.INGEST].options["min_photos"] == 3
    masks = tmp_path / "turn" / "masks"
    masks.mkdir(parents=True)
    (masks / "p0.png").write_bytes(b"m")
    turning = planned(tmp_path / "turn", None, {"capture_kind": "turntable", "masks": {"path": str(masks)}})
    assert turning.stages[Stage.INGEST].options["min_photos"] == 8
    assert turning.stages[Stage.TRAIN].options["mask_use"] == "empty"
    assert still.stages[Stage.TRAIN].options["mask_use"] == "auto"
