"""The process of one stage: `python -m flows.runner.worker FD`, started by `flows.runner.stage_process.run_in_child`.

It is two processes. The *guard* reads the job from stdin and forks the *stage*, which imports the stage's door and
runs it in a session of its own. The guard computes nothing, so it always reacts: when the stage ends, or when stdin
ends - the run cancels, the deadline passed, or the run itself was killed - it kills every process of the stage's
session, removes the scratch folder and reports on FD how the stage ended. Should somebody kill the guard, the kernel
kills the stage (Linux).

On FD: `{"progress": [share, message, facts]}` lines, then `{"done": ...}` or `{"error": ...}`, then
`{"exit": status, "out_of_memory": bool, "scratch_gb": float | None}`. Stdout and stderr belong to native libraries and
go to the log.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import resource
import select
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from flows.runner.job import Job, encode, error_to_dict
from flows.runner.scratch import QUOTA_LOOK_S, ScratchQuota
from models.errors import DigitizeError, ReasonCode
from models.record import Record
from models.results import Done
from tasks import registry
from tasks.commit import StageDoor
from tasks.context import Context, ProgressSink

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""

_PR_SET_PDEATHSIG = 1
_PROGRESS_INTERVAL_S = 0.2


class Assignment(Record):
    """What the guard is told on its stdin, as one line."""

    job: Job
    folder: str
    """Scratch folder of this attempt alone."""
    deadline: float
    """Unix time after which the stage is killed."""


# --- the guard -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Run the assignment that arrives on stdin; the only argument is the descriptor to report on."""
    report = int(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    assignment = Assignment.model_validate_json(_read_line())
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    kills_before = _kernel_kills()
    guard = os.getpid()
    stage = os.fork()
    if stage == 0:
        signal.set_wakeup_fd(-1)
        os.close(wake)
        os.close(woken)
        _become_stage(guard, assignment, report)
    quota = ScratchQuota(Path(assignment.folder), assignment.job.request)
    status = _watch(stage, wake, quota)
    starved = status == -signal.SIGKILL and (_kernel_kills() > kills_before or _held_its_memory(assignment))
    with suppress(BrokenPipeError):  # the run may be gone
        os.write(report, b"\n" + encode(exit=status, out_of_memory=starved, scratch_gb=quota.exceeded_with_gb))
    shutil.rmtree(assignment.folder, ignore_errors=True)


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler rather than SIG_IGN: an ignored SIGCHLD would reap the stage and lose its status."""


def _read_line() -> bytes:
    """One line of stdin, unbuffered: what follows it is for `select` to see."""
    parts: list[bytes] = []
    while not (parts and parts[-1].endswith(b"\n")):
        part = os.read(0, 1 << 16)
        if not part:
            sys.exit(1)
        parts.append(part)
    return b"".join(parts)


def _watch(stage: int, wake: int, quota: ScratchQuota) -> int:
    """Wait for the stage's end, for that of stdin or of the scratch quota; the exit status, negative for a signal."""
    kill_at: float | None = None
    while not _has_ended(stage):
        if kill_at is None and quota.is_exceeded():
            kill_at = time.monotonic()
        listen = [wake] if kill_at is not None else [wake, 0]
        patience = QUOTA_LOOK_S if kill_at is None else max(0.0, kill_at - time.monotonic())
        readable, _, _ = select.select(listen, [], [], patience)
        if wake in readable:
            os.read(wake, 512)
        if 0 in readable and not os.read(0, 512):
            kill_at = time.monotonic() + GRACE_S
            _kill(stage, signal.SIGTERM)
        if kill_at is not None and time.monotonic() >= kill_at:
            _kill(stage, signal.SIGKILL)
            kill_at = time.monotonic() + GRACE_S
    _kill(stage, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])


def _has_ended(stage: int) -> bool:
    """Whether the stage ended, without reaping it: its number stays its own until `_kill` is done with it."""
    return os.waitid(os.P_PID, stage, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(stage: int, number: signal.Signals) -> None:
    """Signal the stage's whole session. Before the stage has its session, the stage alone."""
    try:
        os.killpg(stage, number)
    except (ProcessLookupError, PermissionError):
        os.kill(stage, number)


def _held_its_memory(assignment: Assignment) -> bool:
    """Whether the stage had grown to the memory that it declared: what was killed then was killed for its memory, also
    where the kernel's count cannot be seen (another container's, a batch system's)."""
    unit = 1e9 if sys.platform == "darwin" else 1e6
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    return peak_gb >= assignment.job.request.resources.memory_gb


def _kernel_kills() -> int:
    """How often the kernel has killed a process for memory, as far as this process can see."""
    total = 0
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return total


# --- the stage -------------------------------------------------------------------------------------------------------


def _become_stage(guard: int, assignment: Assignment, report: int) -> None:
    """Never returns: the interpreter's own end could wait for threads or crash in native libraries."""
    code = 1
    try:
        os.setsid()
        _die_with(guard)
        stop = threading.Event()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        send = _sender(report)
        try:
            code = _run(assignment, send, stop.is_set)
        except BaseException as error:
            traceback.print_exc()
            send(error=error_to_dict(describe(error, assignment.job)))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with(guard: int) -> None:
    """Have the kernel kill this process when the guard ends, however it ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != guard:  # it ended before the kernel knew
        os._exit(1)


def _sender(report: int) -> Callable[..., None]:
    lock = threading.Lock()

    def send(**message: Any) -> None:
        rest = memoryview(encode(**message))
        with lock:
            while rest:
                rest = rest[os.write(report, rest) :]

    return send


def _run(assignment: Assignment, send: Callable[..., None], stopped: Callable[[], bool]) -> int:
    done = perform(assignment, _throttled(send), stopped)
    send(done=done.model_dump(mode="json"))
    return 0


def perform(assignment: Assignment, progress: ProgressSink, stopped: Callable[[], bool]) -> Done:
    """Run the stage in this process, below the assignment's folder. Raises whatever the stage raises."""
    # Pillow first: pycolmap before it corrupts the heap
    from PIL import Image  # noqa: F401  isort: skip
    from flows.runner.devices import choose_device
    from infra.storage import open_store
    from tasks.commit import run_stage

    job, folder = assignment.job, Path(assignment.folder)
    scratch, output = folder / "scratch", folder / "output"
    scratch.mkdir(parents=True)
    output.mkdir()
    context = Context(
        request=job.request,
        scratch=scratch,
        output=output,
        store=open_store(job.store_uri),
        open_store=open_store,
        device=choose_device(job.device, job.request.resources.gpu_memory_gb),
        threads=job.threads,
        deadline=assignment.deadline,
        progress=progress,
        cancelled=stopped,
    )
    return run_stage(_entry_point(job), job.request, context)


def _entry_point(job: Job) -> StageDoor:
    """The function that the job names, or the stage's own."""
    if not job.door:
        own: StageDoor = registry.stage_module(job.request.stage).run
        return own
    module, _, function = job.door.partition(":")
    named: StageDoor = getattr(importlib.import_module(module), function)
    return named


def _throttled(send: Callable[..., None]) -> ProgressSink:
    last = [0.0]

    def progress(share: float, message: str, facts: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - last[0] >= _PROGRESS_INTERVAL_S:
            last[0] = now
            send(progress=[share, message, facts])

    return progress


_MEMORY_WORDS = ("bad_alloc", "can't allocate memory", "cannot allocate memory", "out of memory")


def describe(error: BaseException, job: Job) -> DigitizeError:
    """Any exception of a stage as the error to report. The traceback itself is in the log."""
    asset, stage = job.request.asset, job.request.stage
    if isinstance(error, DigitizeError):
        error.asset = error.asset or asset
        return error
    text = f"{type(error).__name__}: {error}"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DigitizeError(ReasonCode.OUT_OF_DISK, f"stage {stage}: {text}", asset=asset)
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or (isinstance(error, RuntimeError) and any(word in text.lower() for word in _MEMORY_WORDS))
    ):
        return DigitizeError(ReasonCode.OUT_OF_MEMORY, f"stage {stage}: {text}", asset=asset)
    if isinstance(error, ImportError):
        return DigitizeError(ReasonCode.MISSING_DEPENDENCY, f"stage {stage}: {text}", asset=asset)
    return DigitizeError(ReasonCode.INTERNAL, f"stage {stage}: {text}", asset=asset, path=job.log_key)


if __name__ == "__main__":
    main()
