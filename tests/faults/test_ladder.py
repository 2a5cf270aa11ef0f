"""Memory, disk and time run out for real; smaller settings fit; the commit, the status and the report say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.asset import run_asset
from flows.housekeeping.forget import forget_from
from flows.plan.committed import AssetPlan
from flows.plan.walk import walk
from flows.runner.stage_process import run_job
from flows.status.board import Board
from infra.storage import FolderStore
from models.errors import ReasonCode
from models.ladder import Ladder, Lower, SteppedDown
from models.resources import Resources
from models.results import Done, StageRequest
from models.stage import Stage
from models.status import AssetStatus, Phase
from tasks.commit import find_done
from tests.flows.helpers import make_job, make_plan

HALF = {"size": Lower(factor=0.5, least=10)}
LADDER = Ladder(memory=HALF, disk=HALF, time=HALF)
CODES = {
    "memory": ReasonCode.OUT_OF_MEMORY,
    "killer": ReasonCode.OUT_OF_MEMORY,
    "scratch": ReasonCode.OUT_OF_DISK,
    "disk": ReasonCode.OUT_OF_DISK,
    "time": ReasonCode.DEADLINE,
}


class Case:
    """One asset whose train stage is hungry."""

    def __init__(self, folder: Path, of: str, size: int, limit: int, ladder: Ladder = LADDER) -> None:
        self.folder, self.store, self.tried = folder, FolderStore(folder / "store"), list[int]()
        options = {"do": "hungry", "of": of, "size": size, "limit": limit}
        plan = make_plan(folder / "store", {"mug": {"train": options}}).assets[0]
        resources = Resources(
            timeout_s=3.0 if of == "time" else 60.0,
            memory_gb=0.08 if of == "killer" else 4.0,
            scratch_gb=limit / 1000 if of == "scratch" else 1.0,
        )
        train = replace(plan.stages[Stage.TRAIN], ladder=ladder, resources=resources)
        self.plan: AssetPlan = replace(plan, stages={**plan.stages, Stage.TRAIN: train})

    def run_stage(self, request: StageRequest) -> Done:
        if request.stage is Stage.TRAIN:
            self.tried.append(request.options["size"])
        (self.folder / "scratch").mkdir(exist_ok=True)
        job = make_job(self.folder, request, isolated=request.stage is Stage.TRAIN)
        return run_job(job, lambda *progress: None, lambda: False)

    def run(self) -> AssetStatus:
        return run_asset(self.plan, self.store, Board("demo"), self.run_stage)

    def request(self, size: int) -> StageRequest:
        done = walk(self.plan, self.store).done
        asked = self.plan.request(Stage.TRAIN, done)
        return asked.model_copy(update={"options": {**asked.options, "size": size}})


@pytest.mark.parametrize(("of", "size", "limit"), [
    ("memory", 400, 250), ("killer", 160, 100), ("scratch", 60, 40), ("disk", 80, 50), ("time", 80, 50)
])  # fmt: skip
def test_one_step_down_is_enough(tmp_path: Path, of: str, size: int, limit: int) -> None:
    case = Case(tmp_path, of, size, limit)
    status = case.run()
    assert case.tried == [size, size // 2]
    assert status.phase is Phase.DONE
    said = SteppedDown(because=CODES[of], asked={"size": size}, used={"size": size // 2})
    assert status.stages[Stage.TRAIN].stepped_down == said
    small = find_done(case.store, case.request(size // 2))
    asked = find_done(case.store, case.request(size))
    assert small is not None and small.key == case.request(size // 2).key and small.stepped_down is None
    assert asked is not None and asked.stepped_down == said and asked.attempt == small.attempt
    assert small.options["size"] == small.result.facts["size"] == size // 2
    publish = case.plan.request(Stage.PUBLISH, walk(case.plan, case.store).done)
    assert publish.options["stepped_down"] == {"train": said.model_dump(mode="json")}
    assert list((tmp_path / "scratch").iterdir()) == []
    assert [stat.key for stat in case.store.list("work/mug/train/") if "/checkpoints/" in stat.key] == []


def test_the_next_run_does_not_run_out_again(tmp_path: Path) -> None:
    Case(tmp_path, "disk", 80, 50).run()
    again = Case(tmp_path, "disk", 80, 50)
    status = again.run()
    assert again.tried == []
    assert status.stages[Stage.TRAIN].stepped_down is not None


def test_rerun_tries_what_was_asked_for(tmp_path: Path) -> None:
    case = Case(tmp_path, "disk", 80, 50)
    case.run()
    assert forget_from(case.plan, case.store, Stage.TRAIN)[0] is Stage.TRAIN
    assert find_done(case.store, case.request(80)) is None
    assert find_done(case.store, case.request(40)) is None
    case.run()
    assert case.tried == [80, 40, 80, 40]


def test_twice_at_most(tmp_path: Path) -> None:
    case = Case(tmp_path, "disk", 800, 50)
    status = case.run()
    assert case.tried == [800, 400, 200]
    assert status.phase is Phase.QUARANTINED
    assert status.failure is not None and status.failure.code is ReasonCode.OUT_OF_DISK
    assert "tried with smaller settings: size 800 -> 200 (out_of_disk)" in status.failure.message


def test_no_ladder_no_second_try(tmp_path: Path) -> None:
    case = Case(tmp_path, "disk", 80, 50, Ladder())
    assert case.run().phase is Phase.QUARANTINED
    assert case.tried == [80]


def test_the_quota_is_named(tmp_path: Path) -> None:
    status = Case(tmp_path, "scratch", 60, 40, Ladder()).run()
    assert status.failure is not None
    assert "GB of scratch, found a quota of 0.04 GB" in status.failure.message
