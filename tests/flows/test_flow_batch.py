"""Whole batches in processes of their own, with Prefect's temporary server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flows.batch import run_batch
from flows.plan.committed import BatchPlan
from flows.prefect_server.local import home
from flows.status.files import read_status
from infra.settings import RunSettings
from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from models.status import Phase
from tests.flows.helpers import environment, make_plan, read_pids, wait_gone, wait_until
from tests.support import STAGES

DRIVER = Path(__file__).parent / "batch_driver.py"


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


def start(folder: Path, prefect_home: Path, assets: dict[str, Any], *more: str) -> subprocess.Popen[str]:
    variables = environment(PREFECT_HOME=str(prefect_home))
    variables.pop("PREFECT_API_URL", None)
    command = [sys.executable, str(DRIVER), str(folder / "store"), json.dumps(assets), *more]
    return subprocess.Popen(
        command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


def phases(found: dict[str, Any]) -> dict[str, str]:
    return {asset: status["phase"] for asset, status in found["statuses"].items()}


def test_a_batch_and_its_second_run(tmp_path: Path, prefect_home: Path) -> None:
    flaky = {"train": {"do": "flaky", "mark": str(tmp_path / "mark")}}
    good = {"good": {}, "unfit": {"pose": {"do": "reject"}}, "flaky": flaky}
    bad = {"bad": {"ingest": {"do": "user_error"}}}
    found = finish(start(tmp_path, prefect_home, {**bad, **good}, "unusable"))
    assert phases(found) == {
        "bad": "quarantined",
        "good": "done",
        "unfit": "rejected",
        "flaky": "done",
        "gone": "quarantined",
    }
    assert found["counts"] == {"quarantined": 2, "done": 2, "rejected": 1}
    assert found["statuses"]["bad"]["failure"]["code"] == "no_overlap"
    assert found["statuses"]["unfit"]["stages"]["train"]["state"] == "skipped"
    assert not found["all_committed"] and not found["cancelled"]
    assert found["run"] and "prefect" in found["imported"]
    assert ["good", "running"] in found["phases"]
    store = FolderStore(tmp_path / "store")
    for asset, phase in phases(found).items():
        written = read_status(store, "demo", asset)
        assert written is not None and written.phase == phase
    assert "Finished in state" in (prefect_home / "digitize.log").read_text()

    again = finish(start(tmp_path, prefect_home, good))
    assert again["all_committed"]
    assert again["imported"] == []
    assert again["run"] is None
    assert phases(again) == {"good": "done", "unfit": "rejected", "flaky": "done"}
    assert again["statuses"]["good"]["run"] == found["run"]


def test_what_prefect_remembers_of_an_asset_ends_with_it(tmp_path: Path, prefect_home: Path) -> None:
    """Otherwise its flow run keeps each task run's state to its end: a night of thousands grows with each stage."""
    found = finish(start(tmp_path, prefect_home, {f"a{number}": {} for number in range(8)}))
    assert phases(found) == dict.fromkeys(phases(found), "done")
    # in flight: a task run a stage and one of the asset, each state kept twice; a third may be on its way out
    three_assets = 3 * 2 * (len(STAGES) + 1)
    assert 0 < max(found["remembered"]) <= three_assets


def test_ctrl_c_cancels_and_leaves_nothing(tmp_path: Path, prefect_home: Path) -> None:
    """The signal goes to the whole process group, as the terminal sends it."""
    pids = tmp_path / "pids"
    deaf = {"pose": {"do": "deaf", "pids": str(pids)}}
    process = start(tmp_path, prefect_home, {"one": deaf, "two": deaf, "three": {}, "four": {}})
    stages = read_pids_later(pids)
    os.killpg(process.pid, signal.SIGINT)
    found = finish(process)
    wait_gone(stages)
    assert found["cancelled"]
    assert phases(found) == dict.fromkeys(("one", "two", "three", "four"), "cancelled")
    assert list((tmp_path / "scratch").iterdir()) == []
    written = read_status(FolderStore(tmp_path / "store"), "demo", "four")
    assert written is not None and written.phase is Phase.CANCELLED
    assert not server_runs(prefect_home)


def test_cancelling_on_the_server_stops_the_work(tmp_path: Path, prefect_home: Path) -> None:
    pids = tmp_path / "pids"
    process = start(tmp_path, prefect_home, {"one": {"ingest": {"do": "deaf", "pids": str(pids)}}}, "inline", str(pids))
    found = finish(process)
    wait_gone(read_pids(pids))
    assert found["cancelled"]
    assert phases(found) == {"one": "cancelled"}


def test_a_killed_run_leaves_no_process(tmp_path: Path, prefect_home: Path) -> None:
    pids = tmp_path / "pids"
    process = start(tmp_path, prefect_home, {"one": {"ingest": {"do": "deaf", "pids": str(pids)}}})
    stages = read_pids_later(pids)
    process.kill()
    process.communicate()
    wait_gone(stages)
    wait_until(lambda: not server_runs(prefect_home))


@pytest.mark.slow
def test_a_batch_with_ray(tmp_path: Path, prefect_home: Path) -> None:
    assets = {"good": {}, "bad": {"train": {"do": "user_error"}}, "unfit": {"pose": {"do": "reject"}}}
    found = finish_noisy(start(tmp_path, prefect_home, assets, "ray"))
    assert phases(found) == {"good": "done", "bad": "quarantined", "unfit": "rejected"}


def finish_noisy(process: subprocess.Popen[str]) -> dict[str, Any]:
    """As `finish`, for a process in which Ray may have a word too."""
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def read_pids_later(path: Path) -> list[int]:
    """The processes of a stage, once Prefect's server has started and the stage runs."""
    wait_until(path.exists, 150)
    return read_pids(path)


def server_runs(prefect_home: Path) -> bool:
    """Whether a temporary server with that home still runs."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if b"flows.prefect_server.local" in command and f"PREFECT_HOME={prefect_home}".encode() in variables:
            return True
    return False


def test_cancelled_before_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    cancel = threading.Event()
    cancel.set()
    outcome = run_batch(make_plan(tmp_path / "store", {"mug": {}}), RunSettings(), cancel=cancel)
    assert outcome.cancelled
    assert outcome.counts == {Phase.CANCELLED: 1}


def test_nothing_but_unusable_sources(tmp_path: Path) -> None:
    error = DigitizeError(ReasonCode.SOURCE_NOT_FOUND, "no folder", path="demo.yaml:7")
    outcome = run_batch(BatchPlan("demo", str(tmp_path / "store"), (), {"mug": error}), RunSettings())
    assert outcome.counts == {Phase.QUARANTINED: 1}
    assert not outcome.all_committed
    assert outcome.run is None


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home() == tmp_path / "digitize" / "prefect"
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    assert home() == Path("/elsewhere")
