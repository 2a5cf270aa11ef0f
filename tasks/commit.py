"""Digest -> reuse, or run in scratch -> atomic commit. The one mechanism behind resume, rerun and caching.

An attempt's files go to `work/<asset>/<stage>/<key>/attempts/<uuid>/`; then `DONE.json`, created only if absent,
names the winner. Whoever loses the race adopts the winner's result and removes its own files.
"""

from __future__ import annotations

import resource
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from models.artifacts import DONE_FILE
from models.digest import canonical_json, sha256_file
from models.errors import DigitizeError, ReasonCode
from models.ladder import SteppedDown
from models.results import ArtifactRef, Done, FileRef, StageRequest, StageResult
from models.store import Store
from tasks.context import Context

StageDoor = Callable[[StageRequest, Context], StageResult]

_UPLOADS = 4
_STOPPED = frozenset({ReasonCode.CANCELLED, ReasonCode.DEADLINE, ReasonCode.OUT_OF_DISK})
"""Errors that say nothing about inputs, and after which there may be no time to read them."""


def find_done(store: Store, request: StageRequest) -> Done | None:
    """The committed result of this request, or None when it was never finished."""
    data = store.get_bytes(f"{request.prefix}/{DONE_FILE}")
    return None if data is None else Done.model_validate_json(data)


def run_stage(door: StageDoor, request: StageRequest, context: Context) -> Done:
    """Reuse the committed result of `request`, or run it and commit.

    Raises whatever the stage raises, and DigitizeError(checksum_mismatch) when a file that it read is not what was
    committed; nothing is committed then, and its checkpoints stay for the next attempt.
    """
    if (done := find_done(context.store, request)) is not None:
        return done
    meter = _Meter.start()
    context.output.mkdir(parents=True, exist_ok=True)
    result = _run(door, request, context)
    used = request.model_copy(update={"options": {**request.options, **result.lowered}})
    attempt = uuid.uuid4().hex
    files = _upload(context.store, context.output, f"{used.prefix}/attempts/{attempt}")
    done = Done(
        key=used.key,
        asset=used.asset,
        stage=used.stage,
        method=used.method,
        version=used.version,
        options=used.options,
        seed=used.seed,
        attempt=attempt,
        files=files,
        digest=ArtifactRef.content_digest(files),
        result=result.model_copy(update={"lowered": {}}),
        seconds=meter.seconds,
        cpu_seconds=meter.cpu_seconds,
        peak_memory_gb=meter.peak_memory_gb,
    )
    done = _commit(context.store, used, done)
    return refer(context.store, request, done, ReasonCode.OUT_OF_MEMORY) if result.lowered else done


def _run(door: StageDoor, request: StageRequest, context: Context) -> StageResult:
    """Run the stage; its result stands for the bytes that its key names, and its error for more than a damaged file."""
    try:
        result = door(request, context)
    except Exception as error:
        if not isinstance(error, DigitizeError) or error.code not in _STOPPED:
            context.verify_inputs()
        raise
    context.verify_inputs()
    return result


def refer(store: Store, asked: StageRequest, done: Done, because: ReasonCode) -> Done:
    """Let the key that was asked for refer to a result with smaller settings, unless something is committed there.

    Returns:
        what stands at that key now.
    """
    stepped_down = SteppedDown.between(because, asked.options, done.options)
    return _commit(store, asked, done.model_copy(update={"stepped_down": stepped_down}))


def _commit(store: Store, request: StageRequest, done: Done) -> Done:
    if not store.put_bytes(f"{request.prefix}/{DONE_FILE}", canonical_json(done), if_absent=True):
        winner = find_done(store, request)
        if winner is None:
            raise DigitizeError(
                ReasonCode.STORE_UNREACHABLE,
                "another attempt's commit appeared and vanished again",
                retryable=True,
                asset=request.asset,
                path=f"{request.prefix}/{DONE_FILE}",
            )
        if winner.attempt != done.attempt and done.key == request.key:
            _remove(store, f"{request.prefix}/attempts/{done.attempt}/")
        done = winner
    _remove(store, f"{request.prefix}/checkpoints/")
    return done


def forget(store: Store, request: StageRequest) -> None:
    """Undo a commit, and the one that it refers to, so that the stage runs again as it was asked for.

    The files of its attempts stay until they are collected.
    """
    done = find_done(store, request)
    store.delete(f"{request.prefix}/{DONE_FILE}")
    if done is not None and done.key != request.key:
        store.delete(f"{done.prefix}/{DONE_FILE}")


def _upload(store: Store, folder: Path, prefix: str) -> tuple[FileRef, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())

    def upload(path: Path) -> FileRef:
        relative = path.relative_to(folder).as_posix()
        file = FileRef(path=relative, sha256=sha256_file(path), bytes=path.stat().st_size)
        store.put_file(f"{prefix}/{relative}", path, file.sha256)
        return file

    with ThreadPoolExecutor(_UPLOADS) as pool:
        return tuple(pool.map(upload, paths))


def _remove(store: Store, prefix: str) -> None:
    for stat in list(store.list(prefix)):
        store.delete(stat.key)


@dataclass(frozen=True)
class _Meter:
    """Wall and CPU time since the start, of this process and its children."""

    wall: float
    cpu: float

    @staticmethod
    def start() -> _Meter:
        return _Meter(time.monotonic(), _cpu_seconds())

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.wall, 3)

    @property
    def cpu_seconds(self) -> float:
        return round(_cpu_seconds() - self.cpu, 3)

    @property
    def peak_memory_gb(self) -> float:
        unit = 1e9 if sys.platform == "darwin" else 1e6
        return round(max(resource.getrusage(who).ru_maxrss for who in _WHO) / unit, 3)


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _cpu_seconds() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, _WHO))
