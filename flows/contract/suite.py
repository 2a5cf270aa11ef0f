"""The contract suite: every check of one method, in the order in which a failure explains the next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flows.contract import damage, declarations, watch
from flows.contract.subject import Bench, Subject
from models.errors import DigitizeError, ReasonCode
from models.results import Done
from models.stage import Stage
from tasks import registry

MOST_KILLS = 12
"""How many events of a run the exhaustive check kills at, spread evenly."""


@dataclass(frozen=True)
class Check:
    """How one check ended."""

    name: str
    passed: bool
    complaints: tuple[str, ...] = ()
    seconds: float = 0.0
    skipped: str = ""
    """Why nothing was checked."""


def every_method() -> list[tuple[Stage, str]]:
    """All methods of all stages, installed ones included, in the order of the line."""
    return [(stage, name) for stage in registry.stages() for name in registry.methods(stage)]


def check_method(
    stage: Stage, name: str, bench: Bench, more: Mapping[str, Any] | None = None, every_kill: bool = False
) -> Iterator[Check]:
    """Check one method on the sphere.

    Args:
        bench: where the captures lie; shared between methods, the inputs of stages are made once.
        more: option values on top of those of the suite.
        every_kill: kill it at each of its events rather than once, and try every kind of damage.

    Yields each check as it ends; nothing further where the first one shows that the method cannot run.
    """
    subject = Subject(bench, stage, name, dict(more or {}))
    checks: dict[str, Callable[[Subject], Iterator[str]]] = {
        "declarations": declarations.complaints,
        "run": run_complaints,
        "sphere": sphere_complaints,
        "determinism": determinism_complaints,
        "resume": every_resume_complaints if every_kill else resume_complaints,
        "damage": partial(damage.complaints, every_kind=every_kill),
    }
    missing = subject.unavailable()
    for title, check in checks.items():
        if missing is not None and title != "declarations":
            yield Check(title, True, skipped=missing)
        elif title == "sphere" and subject.probe.sphere is None:
            yield Check(title, True, skipped=f"the suite does not know what stage {stage} makes of a sphere")
        else:
            yield (done := _timed(title, check, subject))
            if title == "run" and not done.passed:
                return


def _timed(title: str, check: Callable[[Subject], Iterator[str]], subject: Subject) -> Check:
    started = time.monotonic()
    try:
        found = tuple(check(subject))
    except Exception as error:  # a check that cannot be made has failed
        found = (f"{type(error).__name__}: {error}",)
    return Check(title, not found, found, round(time.monotonic() - started, 2))


def run_complaints(subject: Subject) -> Iterator[str]:
    """It runs on a CPU within what it declared, and leaves nothing anywhere else."""
    before = _inputs(subject)
    done = subject.reference.done
    limit = subject.request.resources.memory_gb
    if done.peak_memory_gb > limit:
        yield f"memory: expected at most the declared {limit:g} GB, found {done.peak_memory_gb:g} GB"
    if not done.files:
        yield "files: expected at least one, found none"
    _, seen = subject.watched
    if left := sorted(path.name for path in subject.scratch.iterdir()):
        yield f"scratch: expected nothing left, found {', '.join(left)}"
    own = subject.capture.store.root / subject.request.prefix
    allowed = (subject.scratch, own, Path("/dev"), *subject.probe.outside(subject.capture))
    for path in sorted(seen.written):
        if not any(path.is_relative_to(folder) for folder in allowed) and not _is_harmless(path):
            yield f"writes: expected none outside the output and scratch folders, found {path}"
    if _inputs(subject) != before:
        yield "inputs: expected them unchanged, found other bytes"


def _is_harmless(path: Path) -> bool:
    """Compiled modules, and folders that are there anyway."""
    return "__pycache__" in path.parts or path.is_dir()


def _inputs(subject: Subject) -> dict[str, tuple[int, int]]:
    """Size and time of change of every committed file that the method may read."""
    found = {}
    for ref in subject.request.inputs.values():
        folder = subject.capture.store.root / ref.uri.removeprefix("store:") if ref.uri.startswith("store:") else None
        for file in ref.files if folder else ():
            assert folder is not None
            status = (folder / file.path).stat()
            found[f"{ref.uri}/{file.path}"] = (status.st_size, status.st_mtime_ns)
    return found


def sphere_complaints(subject: Subject) -> Iterator[str]:
    """What came out is the sphere."""
    if subject.probe.outside(subject.capture):  # what it wrote there is that of its latest run
        subject.run()
    check = subject.probe.sphere
    yield from check(subject.reference) if check is not None else ()


def determinism_complaints(subject: Subject) -> Iterator[str]:
    """Equal requests give equal bytes and equal results, in another process and on more threads."""
    yield from _differences(subject.reference.done, subject.watched[0])


def resume_complaints(subject: Subject) -> Iterator[str]:
    """Killed once - after its first checkpoint, or else half way - it ends as if undisturbed."""
    events = subject.watched[1].events
    point = events.index("checkpoint") if "checkpoint" in events else len(events) // 2
    yield from _killed(subject, point)


def every_resume_complaints(subject: Subject) -> Iterator[str]:
    """The same for every event, or MOST_KILLS of them."""
    count = len(subject.watched[1].events)
    step = max(1.0, count / MOST_KILLS)
    for point in sorted({int(k * step) for k in range(min(count, MOST_KILLS))} | {count - 1}):
        yield from _killed(subject, point)


def _killed(subject: Subject, point: int) -> Iterator[str]:
    try:
        subject.run(isolated=True, door=f"{watch.NAME}:killed_at_{point}")
        yield f"kill at event {point}: expected the stage's process to be killed, found a result"
        return
    except DigitizeError as error:
        if error.code is not ReasonCode.WORKER_LOST:
            yield f"kill at event {point}: expected {ReasonCode.WORKER_LOST}, found {error}"
            return
    done = subject.run(isolated=True, resume=True)
    for difference in _differences(subject.reference.done, done):
        yield f"killed at event {point}, then run again: {difference}"


def _differences(one: Done, other: Done) -> Iterator[str]:
    files, again = ({file.path: file.sha256 for file in each.files} for each in (one, other))
    for path in sorted(files.keys() | again.keys()):
        if files.get(path) != again.get(path):
            how = "other bytes" if path in files and path in again else "it in one of two equal runs alone"
            yield f"{path}: expected equal files, found {how}"
    left, right = (_without_times(each.result.model_dump(mode="json")) for each in (one, other))
    if left != right:
        names = sorted(
            name
            for name in left["facts"].keys() | right["facts"].keys()
            if left["facts"].get(name) != right["facts"].get(name)
        )
        yield f"StageResult: expected equal results, found others in ({', '.join(names) or 'not the facts'})"


def _without_times(value: Any) -> Any:
    """Without what a clock or a meter says: keys that are called `seconds`, or end in `_s`, `_per_s` or `_gb`."""
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if not _is_timing(key)}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def _is_timing(key: str) -> bool:
    return key == "seconds" or key.endswith(("_s", "_gb", "_seconds"))
