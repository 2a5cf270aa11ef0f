"""Doors for tests: what a stage does is written in its options."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from models.errors import DigitizeError, ReasonCode
from models.quality import Verdict
from models.results import Reason, StageRequest, StageResult
from tasks.context import Context


def run(request: StageRequest, context: Context) -> StageResult:
    """`options["do"]` names the function below; each writes `out.txt` unless it raises."""
    what = str(request.options.get("do", "write"))
    if runs := request.options.get("runs"):
        with Path(runs).open("a") as file:
            file.write(f"{request.asset} {request.stage}\n")
    result = globals()[f"_{what}"](request, context)
    (context.output / "out.txt").write_text(f"{request.asset} {request.stage}\n")
    return result if isinstance(result, StageResult) else StageResult(facts={"threads": context.threads})


def _write(request: StageRequest, context: Context) -> None:
    """Nothing but the output."""


def _progress(request: StageRequest, context: Context) -> None:
    for step in range(4):
        context.progress(step / 4, f"step {step}", {"step": step})
        time.sleep(float(request.options.get("pause_s", 0.25)))


def _environment(request: StageRequest, context: Context) -> StageResult:
    return StageResult(
        facts={
            "omp": os.environ["OMP_NUM_THREADS"],
            "scratch": str(context.scratch),
            "device": context.device,
            "session": os.getsid(0) == os.getpid(),
        }
    )


def _noise(request: StageRequest, context: Context) -> None:
    print("printed by python", flush=True)
    os.system("echo printed by a child")


def _sleep(request: StageRequest, context: Context) -> None:
    _note_pid(request)
    while True:
        context.check()
        time.sleep(0.05)


def _deaf(request: StageRequest, context: Context) -> None:
    """As native code that blocks: ignores signals, holds the GIL, has a process of its own below it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (context.scratch / "big.bin").write_bytes(b"0" * 1000)
    below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _note_pid(request, below.pid)
    ctypes.PyDLL(None).sleep(600)


def _note_pid(request: StageRequest, *others: int) -> None:
    target = Path(request.options["pids"])
    temporary = target.with_suffix(".tmp")
    temporary.write_text(" ".join(str(pid) for pid in (os.getpid(), *others)))
    temporary.rename(target)


def _user_error(request: StageRequest, context: Context) -> None:
    raise DigitizeError(ReasonCode.NO_OVERLAP, "expected overlap, found none", hint="walk around", path="a.jpg")


def _memory(request: StageRequest, context: Context) -> None:
    raise MemoryError("no room for 9 TB")


def _disk(request: StageRequest, context: Context) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _defect(request: StageRequest, context: Context) -> None:
    raise KeyError("a defect")


def _missing(request: StageRequest, context: Context) -> None:
    import no_such_library  # noqa: F401


def _crash(request: StageRequest, context: Context) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _killed(request: StageRequest, context: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _reject(request: StageRequest, context: Context) -> StageResult:
    reason = Reason.of(ReasonCode.TOO_FEW_REGISTERED, "3 of 40 photos registered")
    return StageResult(verdict=Verdict.REJECT, reasons=(reason,))


def _review(request: StageRequest, context: Context) -> StageResult:
    reason = Reason.of(ReasonCode.LOW_FIDELITY, "PSNR 19 dB")
    return StageResult(verdict=Verdict.REVIEW, reasons=(reason,))


def _checkpoint(request: StageRequest, context: Context) -> StageResult:
    """Counts to 5, keeping a checkpoint at each step; dies at step 3 of the first attempt."""
    found = context.load_checkpoint("step")
    start = 0 if found is None else int(found.read_text())
    for step in range(start, 5):
        file = context.scratch / "step"
        file.write_text(str(step + 1))
        context.save_checkpoint("step", file)
        if step == 2 and start == 0:
            if "pids" in request.options:
                _note_pid(request)
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
    return StageResult(facts={"started_at": start})


def _flaky(request: StageRequest, context: Context) -> None:
    """Fails in a retryable way until the file `options["mark"]` exists."""
    mark = Path(request.options["mark"])
    if not mark.exists():
        mark.touch()
        raise DigitizeError(ReasonCode.STORE_UNREACHABLE, "the store did not answer", retryable=True)


def _hungry(request: StageRequest, context: Context) -> StageResult:
    """Needs `size` MB of what `options["of"]` names, and has a limit of `limit` MB of it."""
    size, limit = int(request.options["size"]), int(request.options["limit"])
    context.save_checkpoint("size", _file(context.scratch / "size", str(size)))
    if request.options["of"] == "memory":  # as a container's limit: malloc fails
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (limit << 20), used + (limit << 20)))
        bytearray(size << 20)
    elif request.options["of"] == "killer" and size > limit:  # as the kernel's killer: exit 137 with the memory held
        _held = bytearray(b"x") * (size << 20)
        os.kill(os.getpid(), signal.SIGKILL)
    elif request.options["of"] == "scratch":
        for part in range(size):
            (context.scratch / f"part{part}").write_bytes(os.urandom(1 << 20))
        time.sleep(6.0 if size > limit else 0.0)  # native code that goes on: the quota ends it
    elif request.options["of"] == "disk" and size > limit:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif request.options["of"] == "time" and size > limit:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(600)
    return StageResult(facts={"size": size})


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
