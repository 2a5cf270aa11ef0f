"""Entry points that run a stage as it is and watch it, or kill its process at a chosen event.

An event is a report of progress, a checkpoint, or the end of the stage before its commit. `Job.door` names an entry
point: `flows.contract.watch:watched`, or `flows.contract.watch:killed_at_N` for the event number N.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.results import StageRequest, StageResult
from tasks import registry
from tasks.context import Context

NAME = __name__
_KILLED = re.compile(r"killed_at_(\d+)")


@dataclass
class Seen:
    """What one run did, in this process."""

    events: list[str] = field(default_factory=list)
    """`progress`, `checkpoint` and `end`, in order."""
    fetched: set[tuple[str, str]] = field(default_factory=set)
    """Inputs and their files that were read."""
    written: set[Path] = field(default_factory=set)
    """Files and folders that Python made, changed or removed."""


last = Seen()
"""Of the latest run in this process; `watching` starts a new one."""


def watched(request: StageRequest, context: Context) -> StageResult:
    """Run the stage and note its events and reads in `last`."""
    _listen(context, last.events.append)
    fetch = context.fetch

    def noted(name: str, path: str) -> Path:
        last.fetched.add((name, path))
        return fetch(name, path)

    context.fetch = noted  # type: ignore[method-assign]
    result: StageResult = registry.stage_module(request.stage).run(request, context)
    last.events.append("end")
    return result


def __getattr__(name: str) -> Callable[[StageRequest, Context], StageResult]:
    """The entry points `killed_at_N`: run the stage, and kill its process at event N or at its end."""
    found = _KILLED.fullmatch(name)
    if found is None:
        raise AttributeError(f"module {NAME} has no attribute {name}")
    number = int(found[1])

    def killed(request: StageRequest, context: Context) -> StageResult:
        count = iter(range(1 << 30))

        def happened(event: str) -> None:
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        _listen(context, happened)
        registry.stage_module(request.stage).run(request, context)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process does not come here")

    return killed


def _listen(context: Context, happened: Callable[[str], None]) -> None:
    """Call `happened` after each report of progress and after each checkpoint."""
    progress, save = context.progress, context.save_checkpoint

    def noted_progress(share: float, message: str, facts: dict[str, Any]) -> None:
        progress(share, message, facts)
        happened("progress")

    def noted_save(name: str, path: Path) -> None:
        save(name, path)
        happened("checkpoint")

    context.progress = noted_progress
    context.save_checkpoint = noted_save  # type: ignore[method-assign]


@contextmanager
def watching() -> Iterator[Seen]:
    """Note what happens in the block, writes of this process included."""
    global last  # noqa: PLW0603  # an entry point is called by its name and has no other way to report
    last = Seen()
    tempfile.gettempdir()  # the first call of a process tries whether it can write there
    _hook()
    _active.append(last)
    try:
        yield last
    finally:
        _active.remove(last)


_active: list[Seen] = []
_hooked: list[bool] = []
_CHANGES = {"os.mkdir": 0, "os.remove": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}
"""Audit events that change the disk, and the argument that says where."""


def _hook() -> None:
    """Install the audit hook, once: Python has no way to remove one."""
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active:
        return
    place: Any = None
    if event == "open":
        place = arguments[0] if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else None
    elif event in _CHANGES and arguments[-1] in (-1, None):  # otherwise it is relative to an open folder
        place = arguments[_CHANGES[event]]
    if isinstance(place, str | bytes | os.PathLike):
        _active[-1].written.add(Path(os.path.abspath(os.fsdecode(place))))  # noqa: PTH100  # no link is followed
