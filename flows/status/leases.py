"""Leases with heartbeats: of two runs that want one stage one works, the other waits; a lost run's is taken over.

Whether an owner is lost is judged by its heartbeat standing still on *this* machine's steady clock, or by its process
being gone when it ran on this machine. No two clocks are ever compared.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.lease import LEASE_FILE, Lease
from models.results import Done, StageRequest
from models.store import Store
from tasks.commit import find_done

BEAT_S = 15.0
LOST_AFTER_S = 60.0
"""A lease whose heartbeat stands still for so long is taken over."""
_LOOK_S = 1.0
"""Between two looks at a lease that somebody else holds."""

_log = logging.getLogger("digitize.leases")


class Leases:
    """The leases that this process holds. A thread renews them while the block lasts."""

    def __init__(
        self,
        store: Store,
        run: str | None = None,
        on_adopted: Callable[[Lease], None] = lambda lease: None,
        *,
        beat_s: float = BEAT_S,
        lost_after_s: float = LOST_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            run: Prefect's id of the flow run.
            on_adopted: called with the lease of a lost run when one of its stages is taken over.
            clock: steady seconds.
        """
        self._store = store
        self._on_adopted = on_adopted
        self._beat_s, self._lost_after_s, self._clock = beat_s, lost_after_s, clock
        pid = os.getpid()
        self._mine = Lease(owner=uuid.uuid4().hex, host=_machine(), pid=pid, born=_born(pid), run=run)
        self._held: set[str] = set()
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-heartbeat", daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @contextmanager
    def hold(
        self,
        request: StageRequest,
        cancelled: Callable[[], bool],
        waiting: Callable[[Lease], None] = lambda lease: None,
    ) -> Iterator[Done | None]:
        """Hold a stage for the block. Waits while a living run holds it; gives that run's commit if it makes one.

        Args:
            waiting: called with the lease that is waited for, once for each owner.

        Raises DigitizeError(cancelled) when `cancelled` becomes true while waiting.
        """
        key = f"{request.prefix}/{LEASE_FILE}"
        done = self._acquire(key, request, cancelled, waiting)
        try:
            yield done
        finally:
            if done is None:
                self._release(key)

    def _acquire(
        self, key: str, request: StageRequest, cancelled: Callable[[], bool], waiting: Callable[[Lease], None]
    ) -> Done | None:
        seen: tuple[str, int] | None = None
        since = 0.0
        while not self._claim(key):
            if cancelled():
                message = "the run was cancelled"
                raise DigitizeError(ReasonCode.CANCELLED, message, retryable=True, asset=request.asset)
            stat, data = self._store.stat(key), self._store.get_bytes(key)
            if stat is None or data is None:
                continue
            found = _read(data)
            if found.owner == self._mine.owner:  # a request whose answer was lost had been obeyed
                self._note(key)
                return None
            if seen is None or found.owner != seen[0]:
                waiting(found)
            if seen != (found.owner, found.beat):
                seen, since = (found.owner, found.beat), self._clock()
            if _is_gone(found) or self._clock() - since >= self._lost_after_s:
                if self._store.put_bytes(key, self._text(0), if_match=stat.etag):
                    _log.warning("%s: the run that held it is lost; taken over", key)
                    self._note(key)
                    self._on_adopted(found)
                    return None
                continue
            self._over.wait(_LOOK_S)
            if (done := find_done(self._store, request)) is not None:
                return done
        return None

    def _claim(self, key: str) -> bool:
        if not self._store.put_bytes(key, self._text(0), if_absent=True):
            return False
        self._note(key)
        return True

    def _note(self, key: str) -> None:
        with self._guard:
            self._held.add(key)

    def _release(self, key: str) -> None:
        with self._guard:
            held = key in self._held
            self._held.discard(key)
        if held:  # else it was taken over, and is another run's
            with suppress(DigitizeError, OSError):
                self._store.delete(key)

    def _keep(self) -> None:
        beat = 0
        while not self._over.wait(self._beat_s):
            beat += 1
            with self._guard:
                keys = list(self._held)
            for key in keys:
                with suppress(DigitizeError, OSError):  # a store that does not answer: the next beat tries again
                    self._renew(key, beat)

    def _renew(self, key: str, beat: int) -> None:
        stat, data = self._store.stat(key), self._store.get_bytes(key)
        mine = data is not None and _read(data).owner == self._mine.owner
        if stat is not None and mine and self._store.put_bytes(key, self._text(beat), if_match=stat.etag):
            with self._guard:
                released = key not in self._held
            if released:
                self._store.delete(key)
            return
        with self._guard:
            if key in self._held:
                _log.warning("%s: another run has taken it over; the first commit wins", key)
            self._held.discard(key)

    def _text(self, beat: int) -> bytes:
        return canonical_json(self._mine.model_copy(update={"beat": beat, "renewed_at": time.time()}))


def _read(data: bytes) -> Lease:
    """The lease, or one of nobody for a text that is none: its heartbeat stands still."""
    try:
        return Lease.model_validate_json(data)
    except ValueError:
        return Lease(owner="", host="", pid=0, born="")


def _is_gone(lease: Lease) -> bool:
    """Whether the owner ran on this machine and its process has ended."""
    return lease.host == _machine() and _born(lease.pid) != lease.born


def _machine() -> str:
    """This machine since its last boot; process numbers of another container are another machine's."""
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            parts.append(str(Path(path).readlink()) if path.endswith("/pid") else Path(path).read_text().strip())
    return " ".join(parts)


def _born(pid: int) -> str:
    """When a process began, in the system's ticks; empty when there is none or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else "unknown"
    return "" if fields[0] in ("Z", "X") else fields[19]
