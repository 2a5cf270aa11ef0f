"""Where all assets of a batch stand at this moment: in memory for the display, in the store for everybody else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from flows.status.files import with_stage, write_status
from models.errors import DigitizeError
from models.stage import Stage
from models.status import AssetStatus, Phase, StageState
from models.store import Store

Listener = Callable[[AssetStatus], None]

HEARTBEAT_S = 20.0
"""How often the status of a running asset is written although nothing but its progress changed."""

_log = logging.getLogger("digitize.progress")


class Board:
    """The state of every asset of a batch. Safe to use from several threads.

    Statuses are frozen records, so what `get` and `all` return never changes under the reader.
    """

    def __init__(self, batch: str, assets: Iterable[str] = (), listener: Listener | None = None) -> None:
        self.batch = batch
        self._lock = threading.Lock()
        self._statuses: dict[str, AssetStatus] = {}
        self._listeners: list[Listener] = [] if listener is None else [listener]
        for asset in assets:
            self.add(asset)

    def add(self, asset: str) -> AssetStatus:
        """The status of an asset, pending in all stages when the board does not know it yet."""
        with self._lock:
            return self._statuses.setdefault(asset, AssetStatus(batch=self.batch, asset=asset))

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each new status, in the thread that changed it. Returns how to stop that."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe

    def get(self, asset: str) -> AssetStatus:
        """The present status of an asset. Raises KeyError when the board does not know it."""
        with self._lock:
            return self._statuses[asset]

    def all(self) -> tuple[AssetStatus, ...]:
        """The present statuses, in the order in which the assets were added."""
        with self._lock:
            return tuple(self._statuses.values())

    def put(self, status: AssetStatus) -> AssetStatus:
        """Replace the status of an asset."""
        return self._replace(status.asset, lambda _: status)

    def change(self, asset: str, **changes: Any) -> AssetStatus:
        """Change fields of an asset's status, `phase` or `reasons` for example."""
        return self._replace(asset, lambda status: status.model_copy(update=changes))

    def change_stage(self, asset: str, stage: Stage, **changes: Any) -> AssetStatus:
        """Change fields of one stage of an asset, `share` or `message` for example."""
        return self._replace(asset, lambda status: with_stage(status, stage, **changes))

    def _replace(self, asset: str, change: Callable[[AssetStatus], AssetStatus]) -> AssetStatus:
        with self._lock:
            status = change(self._statuses.get(asset) or AssetStatus(batch=self.batch, asset=asset))
            self._statuses[asset] = status
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(status)
        return status


class StatusKeeper:
    """Writes the board's statuses to the store: at every change of a phase or of a stage's state, and as heartbeat.

    A store that does not answer never stops the work: the next heartbeat writes again.
    """

    def __init__(self, board: Board, store: Store, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._board = board
        self._store = store
        self._heartbeat_s = heartbeat_s
        self._written: dict[str, tuple[Phase, tuple[StageState, ...]]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="status-heartbeat", daemon=True)
        self._unsubscribe: Callable[[], None] = lambda: None

    def __enter__(self) -> StatusKeeper:
        self._unsubscribe = self._board.subscribe(self._on_change)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._unsubscribe()
        self._thread.join()
        for status in self._board.all():
            if self._written.get(status.asset) != _outline(status):
                self.write(status.asset)

    def write(self, asset: str) -> None:
        """Write the present status of an asset."""
        with self._guard:
            lock = self._locks.setdefault(asset, threading.Lock())
        with lock:
            status = self._board.get(asset)
            try:
                write_status(self._store, status)
            except (DigitizeError, OSError) as error:
                _log.warning("status of asset %s not written: %s", asset, error)
            else:
                self._written[asset] = _outline(status)

    def _on_change(self, status: AssetStatus) -> None:
        if self._written.get(status.asset) != _outline(status):
            self.write(status.asset)

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_s):
            for status in self._board.all():
                if status.phase is Phase.RUNNING or self._written.get(status.asset, _UNKNOWN) != _outline(status):
                    self.write(status.asset)


def _outline(status: AssetStatus) -> tuple[Phase, tuple[StageState, ...]]:
    """What must reach the store at once; progress within a stage can wait for the heartbeat."""
    return status.phase, tuple(stage.state for stage in status.stages.values())


_UNKNOWN = (Phase.PENDING, ())
"""An asset that has not started needs no file."""
