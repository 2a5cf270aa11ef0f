"""What happens to one asset, with stages that are plain functions: no process, no Prefect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.asset import finished_status, run_asset
from flows.plan.committed import AssetPlan
from flows.plan.walk import walk
from flows.status.board import Board, StatusKeeper
from flows.status.files import is_lost, read_status
from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from models.quality import Gate, Metric, Verdict
from models.results import Done, Reason, StageRequest, StageResult
from models.stage import Stage
from models.status import AssetStatus, Phase, StageState
from tasks.commit import run_stage
from tasks.context import Context
from tests.flows.helpers import make_plan, wait_until
from tests.support import STAGES


class Line:
    """Stages that commit at once, except where `results` has another result or an error."""

    def __init__(self, folder: Path, **results: StageResult | Exception) -> None:
        self.store = FolderStore(folder / "store")
        self.folder = folder
        self.results = results
        self.ran: list[Stage] = []

    def plan(self) -> AssetPlan:
        return make_plan(self.folder / "store", {"mug": {}}).assets[0]

    def __call__(self, request: StageRequest) -> Done:
        self.ran.append(request.stage)
        result = self.results.get(str(request.stage), StageResult())
        if isinstance(result, Exception):
            raise result
        output = self.folder / request.key
        context = Context(request, output / "scratch", output / "output", self.store, FolderStore)  # type: ignore[arg-type]
        return run_stage(lambda request, context: result, request, context)

    def run(self, board: Board | None = None) -> AssetStatus:
        return run_asset(self.plan(), self.store, board or Board("demo"), self, "run-1")


def reject() -> StageResult:
    return StageResult(verdict=Verdict.REJECT, reasons=(Reason.of(ReasonCode.NO_OVERLAP, "two objects"),))


def states(status: AssetStatus) -> list[StageState]:
    return [status.stages[stage].state for stage in STAGES]


def test_all_stages(tmp_path: Path) -> None:
    line = Line(tmp_path)
    status = line.run()
    assert line.ran == list(STAGES)
    assert (status.phase, status.verdict, status.run) == (Phase.DONE, Verdict.ACCEPT, "run-1")
    assert states(status) == [StageState.COMMITTED] * len(STAGES)


def test_what_is_committed_is_not_run_again(tmp_path: Path) -> None:
    Line(tmp_path, surface=DigitizeError(ReasonCode.EMPTY_SURFACE, "nothing")).run()
    line = Line(tmp_path)
    status = line.run()
    assert line.ran == [Stage.SURFACE, Stage.SCALE, Stage.EXPORT, Stage.QUALITY, Stage.PUBLISH]
    assert states(status) == [StageState.CACHED] * 4 + [StageState.COMMITTED] * 5


@pytest.mark.parametrize("stage", [Stage.INGEST, Stage.POSE, Stage.SURFACE])
def test_a_rejected_asset_stops_there_for_good(tmp_path: Path, stage: Stage) -> None:
    line = Line(tmp_path, **{str(stage): reject()})
    status = line.run()
    assert (status.phase, status.verdict) == (Phase.REJECTED, Verdict.REJECT)
    assert status.reasons[0].code is ReasonCode.NO_OVERLAP
    position = STAGES.index(stage) + 1
    assert states(status) == [StageState.COMMITTED] * position + [StageState.SKIPPED] * (len(STAGES) - position)
    assert line.ran == list(STAGES[:position])
    again = Line(tmp_path)
    assert again.run().phase is Phase.REJECTED
    assert again.ran == []


def test_an_asset_that_was_measured_and_rejected_gets_its_report(tmp_path: Path) -> None:
    line = Line(tmp_path, quality=reject())
    status = line.run()
    assert (status.phase, status.verdict) == (Phase.REJECTED, Verdict.REJECT)
    assert line.ran == list(STAGES) and status.stages[Stage.PUBLISH].state is StageState.COMMITTED
    again = Line(tmp_path)
    assert again.run().phase is Phase.REJECTED and again.ran == []


def test_a_gate_rejects_before_anything_is_trained_and_a_looser_one_goes_on(tmp_path: Path) -> None:
    poor = StageResult(metrics=(Metric(name="registered_share", value=0.4),))
    gate = Gate(metric="registered_share", at_least=0.5, otherwise=Verdict.REJECT)
    line = Line(tmp_path, pose=poor)
    plan = replace(line.plan(), gates=(gate,))
    status = run_asset(plan, line.store, Board("demo"), line)
    assert status.phase is Phase.REJECTED and line.ran == [Stage.INGEST, Stage.POSE]
    assert [each.passed for each in status.gates[Stage.POSE]] == [False]
    loose = replace(plan, gates=(gate.model_copy(update={"at_least": 0.3}),))
    again = Line(tmp_path, pose=poor)
    status = run_asset(loose, line.store, Board("demo"), again)
    assert status.phase is Phase.DONE and Stage.POSE not in again.ran and Stage.TRAIN in again.ran


def test_a_required_metric_that_nobody_measured_is_for_review(tmp_path: Path) -> None:
    line = Line(tmp_path)
    plan = replace(line.plan(), gates=(Gate(metric="psnr_mesh", at_least=20),))
    status = run_asset(plan, line.store, Board("demo"), line)
    assert (status.phase, status.verdict) == (Phase.DONE, Verdict.REVIEW)
    assert [each.code for each in status.reasons] == [ReasonCode.NOT_MEASURED]
    assert [each.value for each in status.gates[Stage.QUALITY]] == [None]


def test_review_goes_on_and_is_remembered(tmp_path: Path) -> None:
    review = StageResult(verdict=Verdict.REVIEW, reasons=(Reason.of(ReasonCode.BLURRED, "4 photos"),))
    status = Line(tmp_path, ingest=review).run()
    assert (status.phase, status.verdict, status.reasons[0].code) == (Phase.DONE, Verdict.REVIEW, ReasonCode.BLURRED)


def test_an_error_quarantines(tmp_path: Path) -> None:
    status = Line(tmp_path, train=DigitizeError(ReasonCode.DIVERGED, "loss is NaN", hint="slower")).run()
    assert status.phase is Phase.QUARANTINED
    assert status.failure is not None
    assert (status.failure.code, status.failure.stage, status.failure.hint) == ("diverged", Stage.TRAIN, "slower")
    assert states(status)[3:] == [StageState.FAILED] + [StageState.SKIPPED] * 5


def test_a_defect_quarantines_too(tmp_path: Path) -> None:
    status = Line(tmp_path, pose=ZeroDivisionError("division by zero")).run()
    assert status.phase is Phase.QUARANTINED
    assert status.failure is not None and status.failure.code is ReasonCode.INTERNAL


def test_cancelled_waits_for_the_next_run(tmp_path: Path) -> None:
    status = Line(tmp_path, pose=DigitizeError(ReasonCode.CANCELLED, "stop", retryable=True)).run()
    assert (status.phase, status.failure) == (Phase.CANCELLED, None)
    assert status.stages[Stage.POSE].state is StageState.PENDING
    assert Stage.TRAIN not in status.stages
    assert Line(tmp_path).run().phase is Phase.DONE


def test_commits_alone_tell_the_status(tmp_path: Path) -> None:
    line = Line(tmp_path)
    assert walk(line.plan(), line.store).request is not None
    status = line.run()
    told = finished_status(line.plan(), walk(line.plan(), line.store), "run-1")
    assert (told.phase, told.verdict, told.run) == (status.phase, status.verdict, status.run)
    assert states(told) == [StageState.CACHED] * len(STAGES)


def test_the_keeper_writes_changes_at_once_and_beats(tmp_path: Path) -> None:
    line, board = Line(tmp_path), Board("demo", ["mug"])
    with StatusKeeper(board, line.store, heartbeat_s=0.05):
        line.run(board)
        written = read_status(line.store, "demo", "mug")
        assert written is not None and written.phase is Phase.DONE
        board.put(AssetStatus(batch="demo", asset="cup", phase=Phase.RUNNING))
        first = read_status(line.store, "demo", "cup")
        board.change_stage("cup", Stage.POSE, share=0.5)

        def beaten() -> bool:
            now = read_status(line.store, "demo", "cup")
            return now is not None and first is not None and now.updated_at > first.updated_at

        wait_until(beaten)
    found = read_status(line.store, "demo", "cup")
    assert found is not None and not is_lost(found)
    assert found.stages[Stage.POSE].share == 0.5


def test_a_store_that_fails_does_not_stop_the_work(tmp_path: Path) -> None:
    class Broken(FolderStore):
        def put_bytes(self, key: str, data: bytes, **conditions: object) -> bool:
            raise DigitizeError(ReasonCode.STORE_UNREACHABLE, "gone")

    board = Board("demo", ["mug"])
    with StatusKeeper(board, Broken(tmp_path)):
        assert board.change("mug", phase=Phase.RUNNING).phase is Phase.RUNNING


def test_listeners(tmp_path: Path) -> None:
    seen: list[AssetStatus] = []
    board = Board("demo", ["mug"])
    stop = board.subscribe(seen.append)
    board.change("mug", phase=Phase.RUNNING)
    stop()
    board.change("mug", phase=Phase.DONE)
    assert [status.phase for status in seen] == [Phase.RUNNING]
    assert board.all() == (board.get("mug"),)
