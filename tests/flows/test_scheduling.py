"""Turns by priority within a budget, how many assets at once, and what is checked before the start."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.forecast import preflight as checks
from flows.forecast.preflight import preflight
from flows.forecast.scheduling import GpuNeeds, Turns, assets_at_once, gpu_needs
from flows.plan.committed import AssetPlan
from infra.settings import RunSettings
from models.errors import DigitizeError, ReasonCode
from models.resources import Resources
from models.results import Done, StageRequest
from models.stage import Stage
from tasks.context import ProgressSink
from tests.flows.helpers import make_plan, wait_until
from tests.support import STAGES


class Machines:
    """A cluster that is only asked what it has."""

    def __init__(self, gpus: float = 0.0, cpus: float = 2.0, gpu_gb: float = 24.0) -> None:
        self._gpus, self._cpus, self._gpu_gb = gpus, cpus, gpu_gb

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        raise AssertionError("nothing runs here")

    def gpu_share(self, resources: Resources) -> float:
        return min(1.0, resources.gpu_memory_gb / self._gpu_gb) if self._gpus else 0.0

    def gpus(self) -> float:
        return self._gpus

    def cpus(self) -> float:
        return self._cpus

    def close(self) -> None:
        """Nothing."""


def plans(folder: Path, **priorities: int) -> list[AssetPlan]:
    made = make_plan(folder, {name: {} for name in priorities}).assets
    return [replace(plan, priority=priorities[plan.id]) for plan in made]


def never() -> bool:
    return False


def test_the_highest_priority_first(tmp_path: Path) -> None:
    turns = Turns(plans(tmp_path, a=0, b=5, c=0, d=-1), {}, None)
    assert [turns.next(never) for _ in range(5)] == ["b", "a", "c", "d", None]
    turns = Turns(plans(tmp_path, a=0, b=5, c=0, d=-1), {"a": 10.0, "b": 1.0, "c": 20.0, "d": 90.0}, None)
    assert [turns.next(never) for _ in range(4)] == ["b", "c", "a", "d"]


def test_what_does_not_fit_is_left(tmp_path: Path) -> None:
    """1 GPU hour; each asset is expected to take 25 minutes, `small` takes 5."""
    expected = {"a": 1500.0, "b": 1500.0, "c": 1500.0, "small": 300.0}
    turns = Turns(plans(tmp_path, a=0, b=0, c=0, small=0), expected, 1.0)
    assert [turns.next(never), turns.next(never), turns.next(never)] == ["a", "b", "small"]
    turns.charge("small", 300.0)
    turns.finished("small")
    for asset in ("a", "b"):
        turns.charge(asset, 1500.0)
        turns.finished(asset)
    assert turns.next(never) is None
    assert turns.order == ("c",)
    assert turns.spent_gpu_s == 3300.0


def test_what_took_less_than_expected_makes_room(tmp_path: Path) -> None:
    turns = Turns(plans(tmp_path, a=0, b=0), {"a": 3000.0, "b": 3000.0}, 1.0)
    assert turns.next(never) == "a"
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(turns.next(never)))
    thread.start()
    turns.charge("a", 100.0)
    turns.finished("a")
    thread.join(10)
    assert found == ["b"]


def test_an_asset_larger_than_the_budget_has_a_turn(tmp_path: Path) -> None:
    turns = Turns(plans(tmp_path, huge=0, b=0), {"huge": 9000.0, "b": 10.0}, 1.0)
    assert turns.next(never) == "huge"
    turns.charge("huge", 9000.0)
    turns.finished("huge")
    assert turns.next(never) is None


def test_waiting_ends_with_a_cancel(tmp_path: Path) -> None:
    turns, cancel = Turns(plans(tmp_path, a=0, b=0), {"a": 3000.0, "b": 3000.0}, 1.0), threading.Event()
    turns.next(never)
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(turns.next(cancel.is_set)))
    thread.start()
    cancel.set()
    wait_until(lambda: found == [None])
    thread.join()


def test_needs(tmp_path: Path) -> None:
    [plan] = plans(tmp_path, a=0)
    stages = dict(plan.stages)
    stages[Stage.TRAIN] = replace(stages[Stage.TRAIN], resources=Resources(gpu_memory_gb=12.0))
    stages[Stage.QUALITY] = replace(stages[Stage.QUALITY], resources=Resources(gpu_memory_gb=6.0))
    seconds = dict.fromkeys(STAGES, 10.0) | {Stage.TRAIN: 50.0, Stage.MASK: 0.0, Stage.SCALE: 0.0, Stage.EXPORT: 0.0}
    found = gpu_needs(replace(plan, stages=stages), Machines(gpus=1), seconds)
    assert found == GpuNeeds(gpu_s=0.5 * 50 + 0.25 * 10, share=27.5 / 60, gpu_part=0.6)
    assert gpu_needs(replace(plan, stages=stages), Machines(), seconds).gpu_s == 0


def test_enough_assets_to_fill_the_gpus() -> None:
    ray = RunSettings(runner="ray")
    needs = [GpuNeeds(gpu_s=60.0, share=0.25, gpu_part=0.5)] * 3
    # 8 GPUs with 4 places each, half of an asset's time spent there: 64 fill them, three times as many leave no gap
    assert assets_at_once(ray, Machines(gpus=8), needs, 2.0) == 192
    assert assets_at_once(ray, Machines(gpus=1000), needs, 2.0) == 2048
    assert assets_at_once(ray, Machines(cpus=32), [], 2.0) == 18
    assert assets_at_once(ray, Machines(), [], 2.0) == 4
    assert assets_at_once(RunSettings(runner="ray", assets_at_once=7), Machines(gpus=8), needs, 2.0) == 7
    assert assets_at_once(RunSettings(), Machines(), [], 2.0) == 1


def set_room(monkeypatch: pytest.MonkeyPatch, disk: float = 100.0, memory: float = 100.0) -> None:
    monkeypatch.setattr(checks, "free_disk_gb", lambda path: disk)
    monkeypatch.setattr(checks, "available_memory_gb", lambda: memory)


def check(folder: Path, wanted: int = 4, machines: Machines | None = None, **settings: object) -> checks.Preflight:
    [plan] = plans(folder, a=0)
    needs = Resources(memory_gb=4.0, scratch_gb=10.0, gpu_memory_gb=40.0)
    stages = {**plan.stages, Stage.TRAIN: replace(plan.stages[Stage.TRAIN], resources=needs)}
    run = RunSettings.model_validate({"scratch": folder, **settings})
    return preflight([replace(plan, stages=stages)], run, str(folder), machines or Machines(), wanted)


def test_room_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_room(monkeypatch)
    assert check(tmp_path) == checks.Preflight(4, ())


def test_fewer_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_room(monkeypatch, disk=31.5)
    found = check(tmp_path)
    assert found.at_once == 3
    assert found.notes == ("scratch disk: 30.5 GB is enough for 3 assets at once rather than 4",)
    set_room(monkeypatch, memory=9.0)
    assert check(tmp_path).at_once == 2


def test_too_little_for_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_room(monkeypatch, memory=3.0)
    found = check(tmp_path)
    assert found.at_once == 1
    assert found.notes == ("memory: stage train declares 4.0 GB, found 3.0 GB: it may step down",)


def test_a_full_disk_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_room(monkeypatch, disk=0.4)
    with pytest.raises(DigitizeError) as caught:
        check(tmp_path)
    assert caught.value.code is ReasonCode.OUT_OF_DISK
    assert "found 0.40 GB" in caught.value.message


def test_a_cluster_has_its_own_disks_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_room(monkeypatch, disk=2.0, memory=1.0)
    cluster = {"runner": "ray", "ray_address": "auto"}
    assert check(tmp_path, **cluster) == checks.Preflight(4, ())
    found = check(tmp_path, machines=Machines(gpus=2.0), gpu_memory_gb=24.0, **cluster)
    assert found.notes == ("GPU memory: stage train declares 40.0 GB, a GPU has 24.0 GB: it may step down",)
