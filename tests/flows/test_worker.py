"""The process of one stage: commits, errors, deadlines, cancelling, and that nothing of it is ever left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.runner.devices import choose_device, cpu_cores
from flows.runner.job import Job, decode, outcome_from_json, outcome_to_json
from flows.runner.stage_process import run_in_child
from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from models.results import Done
from tests.flows.helpers import alive, environment, make_job, make_request, read_pids, wait_gone, wait_until


def silent(share: float, message: str, facts: dict[str, Any]) -> None:
    """Drops progress."""


def run(job: Job) -> Done:
    return run_in_child(job, silent, lambda: False)


def fail(job: Job) -> DigitizeError:
    with pytest.raises(DigitizeError) as caught:
        run(job)
    return caught.value


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "scratch").iterdir())


def test_commits_and_reuses(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    job = make_job(tmp_path, make_request(runs=str(runs)))
    first = run(job)
    assert first.files[0].path == "out.txt"
    assert run(job) == first
    assert runs.read_text() == "mug pose\n"
    assert leftovers(tmp_path) == []


def test_progress_arrives_while_the_stage_runs(tmp_path: Path) -> None:
    seen: list[tuple[float, str, dict[str, Any]]] = []
    run_in_child(make_job(tmp_path, make_request(do="progress")), lambda *p: seen.append(p), lambda: False)
    assert seen[0] == (0.0, "step 0", {"step": 0})
    assert len(seen) > 1


def test_surroundings(tmp_path: Path) -> None:
    facts = run(make_job(tmp_path, make_request(do="environment"), threads=1)).result.facts
    assert facts["omp"] == "1"
    assert facts["scratch"].startswith(str(tmp_path / "scratch"))
    assert facts["device"] == "cpu"
    assert facts["session"]


def test_what_libraries_print_is_kept_as_log(tmp_path: Path) -> None:
    job = make_job(tmp_path, make_request(do="noise"))
    run(job)
    log = FolderStore(tmp_path / "store").get_bytes(job.log_key)
    assert log is not None
    assert set(log.decode().splitlines()) == {"printed by python", "printed by a child"}


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("memory", ReasonCode.OUT_OF_MEMORY),
        ("disk", ReasonCode.OUT_OF_DISK),
        ("missing", ReasonCode.MISSING_DEPENDENCY),
        ("crash", ReasonCode.INTERNAL),
        ("killed", ReasonCode.WORKER_LOST),
        ("defect", ReasonCode.INTERNAL),
    ],
)
def test_errors_get_codes(tmp_path: Path, what: str, code: ReasonCode) -> None:
    job = make_job(tmp_path, make_request(do=what))
    error = fail(job)
    assert error.code is code
    assert error.asset == "mug"
    assert error.retryable == (code is ReasonCode.WORKER_LOST)
    assert leftovers(tmp_path) == []
    if code is ReasonCode.INTERNAL:
        assert error.path == job.log_key
        assert FolderStore(tmp_path / "store").get_bytes(job.log_key)


def test_a_users_error_passes_through(tmp_path: Path) -> None:
    error = fail(make_job(tmp_path, make_request(do="user_error")))
    assert (error.code, error.hint, error.path) == (ReasonCode.NO_OVERLAP, "walk around", "a.jpg")
    assert "expected overlap, found none" in error.message


def test_an_unreadable_door_is_an_error_of_the_stage(tmp_path: Path) -> None:
    error = fail(make_job(tmp_path, make_request(), door="tests.flows.nowhere:run"))
    assert error.code is ReasonCode.MISSING_DEPENDENCY


def test_deadline_kills_what_ignores_signals(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    error = fail(make_job(tmp_path, make_request(timeout_s=2.0, do="deaf", pids=str(pids))))
    assert error.code is ReasonCode.DEADLINE
    wait_gone(read_pids(pids))
    assert leftovers(tmp_path) == []


def test_a_stage_notices_its_deadline(tmp_path: Path) -> None:
    error = fail(make_job(tmp_path, make_request(timeout_s=1.0, do="sleep", pids=str(tmp_path / "pids"))))
    assert error.code is ReasonCode.DEADLINE


@pytest.mark.parametrize("what", ["sleep", "deaf"])
def test_cancel(tmp_path: Path, what: str) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(DigitizeError) as caught:
        run_in_child(make_job(tmp_path, make_request(do=what, pids=str(pids))), silent, pids.exists)
    assert caught.value.code is ReasonCode.CANCELLED
    wait_gone(read_pids(pids))
    assert leftovers(tmp_path) == []


RUN_JOB = """
import sys
from flows.runner.stage_process import run_in_child
from flows.runner.job import Job
run_in_child(Job.model_validate_json(sys.argv[1]), lambda *_: None, lambda: False)
"""


def start_run(job: Job) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN_JOB, job.model_dump_json()], env=environment())


def test_nothing_outlives_a_killed_run(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    run_process = start_run(make_job(tmp_path, make_request(do="deaf", pids=str(pids))))
    stage, below = read_pids(pids)
    assert alive(stage)
    run_process.kill()
    run_process.wait()
    wait_gone([stage, below])
    wait_until(lambda: leftovers(tmp_path) == [])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
def test_the_stage_dies_with_its_guard(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    errors: list[DigitizeError] = []
    job = make_job(tmp_path, make_request(do="deaf", pids=str(pids)))
    thread = threading.Thread(target=lambda: errors.append(fail(job)))
    thread.start()
    stage, below = read_pids(pids)
    guard = int(Path(f"/proc/{stage}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard, signal.SIGKILL)
    thread.join(30)
    wait_gone([stage])
    os.kill(below, signal.SIGKILL)
    assert errors[0].code is ReasonCode.WORKER_LOST
    assert leftovers(tmp_path) == []


def test_folders_of_lost_machines_are_removed(tmp_path: Path) -> None:
    lost = tmp_path / "scratch" / "digitize-attempt-lost"
    lost.mkdir(parents=True)
    (lost / "big.bin").write_bytes(b"0")
    long_ago = time.time() - 3600
    os.utime(lost, (long_ago, long_ago))
    run(make_job(tmp_path, make_request()))
    assert leftovers(tmp_path) == []


def test_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    job = make_job(tmp_path, make_request(do="checkpoint"))
    assert fail(job).code is ReasonCode.WORKER_LOST
    assert run(job).result.facts["started_at"] == 3


def test_goes_on_from_its_checkpoint_after_the_run_was_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = make_job(tmp_path, make_request(do="checkpoint", pids=str(pids)))
    run_process = start_run(job)
    stages = read_pids(pids)
    run_process.kill()
    run_process.wait()
    wait_gone(stages)
    assert run(job).result.facts["started_at"] == 3


def test_a_line_cut_short_is_no_message() -> None:
    assert decode(b'{"progress": [0.') == {}
    assert decode(b"") == {}
    assert decode(b"3") == {}


def test_outcomes_as_text(tmp_path: Path) -> None:
    done = run(make_job(tmp_path, make_request()))
    assert outcome_from_json(outcome_to_json(done)) == done
    error = DigitizeError(ReasonCode.NO_OVERLAP, "found none", hint="move", asset="mug", path="a.jpg")
    with pytest.raises(DigitizeError) as caught:
        outcome_from_json(outcome_to_json(error))
    assert vars(caught.value) == vars(error)


def test_devices() -> None:
    assert choose_device("cuda", 0.0) == "cpu"
    assert choose_device("cpu", 8.0) == "cpu"
    assert choose_device("cuda", 8.0) == "cuda"
    assert cpu_cores() >= 1
