"""The runners. The Ray tests share one Ray on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.runner.local import InlineRunner
from flows.runner.make import make_runner
from flows.runner.ray_runner import RayRunner
from infra.settings import RunSettings
from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from models.resources import Resources
from models.results import Done, StageRequest
from tests.flows.helpers import DOOR, alive, make_request, read_pids, wait_gone, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")


def silent(share: float, message: str, facts: dict[str, Any]) -> None:
    """Drops progress."""


def never() -> bool:
    return False


def settings(folder: Path, **changes: Any) -> RunSettings:
    return RunSettings(scratch=folder / "scratch", **changes)


def test_inline(tmp_path: Path) -> None:
    runner = make_runner(settings(tmp_path, threads=1), str(tmp_path / "store"), DOOR)
    assert isinstance(runner, InlineRunner)
    done = runner.run(make_request(), silent, never)
    assert done.result.facts == {"threads": 1}
    runner.close()


def test_a_missing_cluster_is_named() -> None:
    with pytest.raises(DigitizeError) as caught:
        RayRunner(RunSettings(runner="ray", ray_address="127.0.0.1:1"), "unused")
    assert caught.value.code is ReasonCode.WORKER_LOST
    assert "127.0.0.1:1" in caught.value.message
    assert "RAY_AUTH_MODE" in caught.value.hint


@pytest.fixture(scope="class")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    first = RayRunner(RunSettings(runner="ray"), str(tmp_path_factory.mktemp("ray")))
    yield
    first.close()


def ray_runner(folder: Path) -> RayRunner:
    runner = make_runner(settings(folder, runner="ray"), str(folder / "store"), DOOR)
    assert isinstance(runner, RayRunner)
    return runner


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "scratch").iterdir())


@pytest.mark.usefixtures("ray_here")
class TestRay:
    def test_runs_and_shows_progress(self, tmp_path: Path) -> None:
        seen: list[tuple[Any, ...]] = []
        request = make_request(do="progress", pause_s=1.5)
        done = ray_runner(tmp_path).run(request, lambda *p: seen.append(p), never)
        assert done.key == request.key
        assert seen and seen[-1][1].startswith("step")
        assert FolderStore(tmp_path / "store").stat(f"{request.prefix}/progress.json") is None
        assert leftovers(tmp_path) == []

    def test_tasks_of_all_assets_share_their_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ray counts tasks by name and forgets none: with the asset in it a night's driver grows with each stage."""
        runner, names = ray_runner(tmp_path), []
        given = runner._on_node.options

        def options(**values: Any) -> Any:
            names.append(values["name"])
            return given(**values)

        monkeypatch.setattr(runner._on_node, "options", options)
        for asset in ("mug", "vase"):
            runner.run(make_request().model_copy(update={"asset": asset}), silent, never)
        assert names == ["pose", "pose"]

    def test_an_error_passes_through_and_is_not_repeated(self, tmp_path: Path) -> None:
        runs = tmp_path / "runs"
        with pytest.raises(DigitizeError) as caught:
            ray_runner(tmp_path).run(make_request(do="user_error", runs=str(runs)), silent, never)
        assert (caught.value.code, caught.value.hint) == (ReasonCode.NO_OVERLAP, "walk around")
        assert runs.read_text() == "mug pose\n"

    def test_deadline(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        with pytest.raises(DigitizeError) as caught:
            ray_runner(tmp_path).run(make_request(timeout_s=2.0, do="deaf", pids=str(pids)), silent, never)
        assert caught.value.code is ReasonCode.DEADLINE
        wait_gone(read_pids(pids))

    def test_cancel_ends_what_ignores_signals(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        with pytest.raises(DigitizeError) as caught:
            ray_runner(tmp_path).run(make_request(do="deaf", pids=str(pids)), silent, pids.exists)
        assert caught.value.code is ReasonCode.CANCELLED
        wait_gone(read_pids(pids))
        wait_until(lambda: leftovers(tmp_path) == [])

    def test_cancel_of_a_stage_that_waits_for_its_turn(self, tmp_path: Path) -> None:
        runs, start = tmp_path / "runs", time.monotonic()
        request = make_request(runs=str(runs)).model_copy(update={"resources": Resources(cpus=64, memory_gb=4000)})
        runner = ray_runner(tmp_path)
        pids = tmp_path / "pids"
        blocker = threading.Thread(target=_run_quietly, args=(runner, make_request(do="sleep", pids=str(pids)), runs))
        blocker.start()
        read_pids(pids)
        with pytest.raises(DigitizeError) as caught:
            runner.run(request, silent, lambda: time.monotonic() - start > 2)
        assert caught.value.code is ReasonCode.CANCELLED
        assert not runs.exists()
        runs.touch()
        blocker.join(30)
        assert not blocker.is_alive()

    def test_a_lost_worker_is_replaced_and_goes_on_from_the_checkpoint(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        request = make_request(do="checkpoint", pids=str(pids))
        done: list[Done] = []
        thread = threading.Thread(target=lambda: done.append(ray_runner(tmp_path).run(request, silent, never)))
        thread.start()
        [stage] = read_pids(pids)
        worker = parent(parent(stage))
        os.kill(worker, signal.SIGKILL)
        wait_gone([worker, stage])
        thread.join(60)
        assert done[0].result.facts["started_at"] == 3
        wait_until(lambda: leftovers(tmp_path) == [])


def _run_quietly(runner: RayRunner, request: StageRequest, end: Path) -> None:
    with pytest.raises(DigitizeError):
        runner.run(request, silent, end.exists)


def parent(pid: int) -> int:
    assert alive(pid)
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_a_lost_node_is_replaced(tmp_path: Path) -> None:
    """Two nodes beside the head; the one at work is killed, the other goes on from the checkpoint."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 0})
    first = cluster.add_node(num_cpus=1)
    try:
        runner = ray_runner(tmp_path)  # this process is connected to the head
        pids = tmp_path / "pids"
        request = make_request(do="checkpoint", pids=str(pids))
        done: list[Done] = []
        thread = threading.Thread(target=lambda: done.append(runner.run(request, silent, never)))
        thread.start()
        stages = read_pids(pids)
        cluster.add_node(num_cpus=1)
        cluster.remove_node(first, allow_graceful=False)
        wait_gone(stages)
        thread.join(120)
        assert done[0].result.facts["started_at"] == 3
    finally:
        ray.shutdown()
        cluster.shutdown()
