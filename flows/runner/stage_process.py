"""Run one stage in a process of its own and follow it: progress, deadline, cancelling, and how it ended."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from flows.runner.devices import cpu_cores
from flows.runner.job import Job, decode, error_from_dict
from flows.runner.scratch import quota_gb
from flows.runner.worker import GRACE_S, Assignment, describe, perform
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from models.results import Done
from tasks.context import ProgressSink

_POLL_S = 0.1
_PATIENCE_S = 10.0
"""For a guard that was told to stop; it needs GRACE_S and the time to remove the scratch folder."""
_LOG_BYTES = 1 << 20
_PREFIX = "digitize-attempt-"
_LOCK = "lock"
_STALE_S = 60.0


def run_job(job: Job, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
    """Run a stage as its job asks: in a child process, or in this one. Raises DigitizeError as `run_in_child` does."""
    if job.isolated:
        return run_in_child(job, on_progress, cancelled)
    with tempfile.TemporaryDirectory(dir=job.scratch) as folder:
        assignment = Assignment(job=job, folder=folder, deadline=time.time() + job.request.resources.timeout_s)
        try:
            return perform(assignment, on_progress, cancelled)
        except Exception as error:
            raise describe(error, job) from error


def run_in_child(job: Job, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
    """Run a stage, or reuse its commit, in a child process that can be killed whatever it does.

    Nothing of it outlives this call, nor this process: not when it is killed with SIGKILL either.

    Args:
        on_progress: called in this thread.
        cancelled: polled ten times a second; the child is gone about a second after it says True.

    Raises DigitizeError: the stage's own; `cancelled`; `deadline` after `resources.timeout_s`; `out_of_memory` or
    `worker_lost` when something killed the child; `internal` for anything else, with the traceback in the log.
    """
    wanted = job.threads or max(1, round(job.request.resources.cpus))
    job = job.model_copy(update={"threads": min(wanted, cpu_cores())})
    root = Path(job.scratch or tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    with _attempt_folder(root) as (folder, lock), tempfile.TemporaryFile(dir=root) as log:
        timeout_s = job.request.resources.timeout_s
        assignment = Assignment(job=job, folder=str(folder), deadline=time.time() + timeout_s)
        follower = _Follower(job, on_progress, cancelled, time.monotonic() + timeout_s + GRACE_S)
        try:
            with _started(assignment, lock, log) as (process, report):
                follower.follow(process, report)
        finally:
            _keep_log(job, log)
    return follower.outcome()


def child_environment(threads: int) -> dict[str, str]:
    """The child's environment: ours - credentials of the store come this way - with the number of threads set."""
    environment = dict(os.environ)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM"):
        environment[f"{name}_NUM_THREADS"] = str(threads)
    # Threads that spin while they wait collapse on a machine that anything else uses, and to wake them each time costs
    # a sixth of a training step. They spin for some microseconds: 7 % of a step beside another process.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000", **environment}
    roots = [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, roots)), "PYTHONFAULTHANDLER": "1"}
    return environment


@contextmanager
def _attempt_folder(root: Path) -> Iterator[tuple[Path, int]]:
    """A new folder and a held lock in it. The child inherits the lock: while anyone holds it the folder is in use."""
    folder = root / f"{_PREFIX}{uuid.uuid4().hex}"
    folder.mkdir()
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder, lock
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(root: Path) -> None:
    """Remove folders of attempts that a lost machine, or a kill of both run and guard, left behind."""
    for folder in root.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < _STALE_S:
                continue
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


@contextmanager
def _started(assignment: Assignment, lock: int, log: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The guard, told its assignment, and the pipe it reports on. At the end of the block it is gone."""
    report, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.runner.worker", str(theirs)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs, lock),
            start_new_session=True,
            env=child_environment(assignment.job.threads),
        )
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(theirs)
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(assignment.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        yield process, report
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        os.close(report)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Follower:
    """Reads the report of one attempt and decides how it ended."""

    def __init__(self, job: Job, on_progress: ProgressSink, cancelled: Callable[[], bool], kill_at: float) -> None:
        self._job = job
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._kill_at = kill_at
        self._done: Done | None = None
        self._error: DigitizeError | None = None
        self._stopped_for: ReasonCode | None = None
        self._exit: int | None = None
        self._out_of_memory = False
        self._scratch_gb: float | None = None

    def follow(self, process: subprocess.Popen[bytes], report: int) -> None:
        """Pump messages until the guard has said how the stage ended, or is gone."""
        rest = b""
        while self._exit is None:
            self._stop_when_due(process)
            if not select.select([report], [], [], _POLL_S)[0]:
                continue
            part = os.read(report, 1 << 16)
            if not part:
                return
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                self._take(decode(line))

    def _stop_when_due(self, process: subprocess.Popen[bytes]) -> None:
        """The end of its stdin tells the guard to stop the stage."""
        if self._stopped_for is not None:
            return
        if self._cancelled():
            self._stopped_for = ReasonCode.CANCELLED
        elif time.monotonic() >= self._kill_at:
            self._stopped_for = ReasonCode.DEADLINE
        if self._stopped_for is not None and process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "progress" in message and self._stopped_for is None:
            self._on_progress(*message["progress"])
        elif "done" in message:
            self._done = Done.model_validate(message["done"])
        elif "error" in message:
            self._error = error_from_dict(message["error"])
        elif "exit" in message:
            self._exit = message["exit"]
            self._out_of_memory, self._scratch_gb = message["out_of_memory"], message["scratch_gb"]

    def outcome(self) -> Done:
        """The commit, or else raise why there is none."""
        if self._done is not None:
            return self._done
        request = self._job.request
        if self._stopped_for is ReasonCode.CANCELLED:
            raise DigitizeError(ReasonCode.CANCELLED, "the run was cancelled", retryable=True, asset=request.asset)
        if self._stopped_for is ReasonCode.DEADLINE:
            limit = request.resources.timeout_s
            message = f"stage {request.stage} did not finish within {limit:g} s"
            raise DigitizeError(ReasonCode.DEADLINE, message, asset=request.asset)
        if self._scratch_gb is not None:
            limit = quota_gb(request)
            message = (
                f"stage {request.stage} filled {self._scratch_gb:.2f} GB of scratch, found a quota of {limit:.2f} GB"
            )
            raise DigitizeError(ReasonCode.OUT_OF_DISK, message, asset=request.asset)
        if self._error is not None and self._error.code is not ReasonCode.CANCELLED:
            raise self._error
        raise self._death()

    def _death(self) -> DigitizeError:
        """The error for a stage that ended without a word. A `cancelled` that nobody asked for is a kill too."""
        request, log = self._job.request, self._job.log_key
        if self._out_of_memory:
            message = f"the system ran out of memory and killed stage {request.stage}"
            return DigitizeError(ReasonCode.OUT_OF_MEMORY, message, asset=request.asset)
        if self._error is not None or self._exit in (None, -signal.SIGKILL, -signal.SIGTERM):
            message = f"the process of stage {request.stage} was killed from outside"
            return DigitizeError(ReasonCode.WORKER_LOST, message, retryable=True, asset=request.asset)
        how = f"with {signal.Signals(-self._exit).name}" if self._exit and self._exit < 0 else f"({self._exit})"
        message = f"the process of stage {request.stage} crashed {how} in native code"
        return DigitizeError(ReasonCode.INTERNAL, message, asset=request.asset, path=log)


def _keep_log(job: Job, log: IO[bytes]) -> None:
    """Keep the end of what the stage printed. The log is a help, not a result: a store that fails is no error here."""
    size = log.seek(0, os.SEEK_END)
    if not size:
        return
    log.seek(max(0, size - _LOG_BYTES))
    with suppress(DigitizeError, OSError):
        open_store(job.store_uri).put_bytes(job.log_key, log.read())
