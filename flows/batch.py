"""Many assets: recognise what is finished, run the rest, account for all.

This module and everything it imports at its top stay light: a batch whose every stage is committed is recognised
without Prefect, Ray or any library that computes.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from flows.asset import finished_status
from flows.forecast.estimate import forecast
from flows.forecast.eta import Eta
from flows.forecast.history import History
from flows.forecast.preflight import prepare
from flows.forecast.scheduling import Turns
from flows.plan.committed import AssetPlan, BatchPlan
from flows.plan.walks import Walks
from flows.runner.base import Runner
from flows.runner.make import make_runner
from flows.status.board import Board, StatusKeeper
from flows.status.files import read_status, write_status
from infra.settings import RunSettings
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from models.malloc import give_back
from models.status import AssetStatus, Failure, Phase, StageState, StageStatus
from models.store import Store
from tasks import registry

if TYPE_CHECKING:
    from flows.batch_flow import Session

_LOOKUPS = 16
"""Statuses read at once: on S3 each waits for the server."""
_POLL_S = 0.1
_TIDY_S = 3.0
"""Freed memory goes back to the system that often."""


@dataclass(frozen=True)
class BatchOutcome:
    """How a batch ended."""

    batch: str
    statuses: dict[str, AssetStatus]
    """The final status of each asset, in the plan's order; assets whose sources are unusable come last."""
    all_committed: bool
    """Nothing had to run: each asset was finished, by its last commit or by one that rejected it."""
    cancelled: bool
    seconds: float
    """Wall seconds."""
    run: str | None = None
    """Prefect's id of the flow run; None when nothing had to run."""
    gpu_hours: float = 0.0
    """What the stages that ran took of the GPUs."""
    notes: tuple[str, ...] = ()
    """What this machine had too little of, and what followed."""

    @property
    def left(self) -> tuple[str, ...]:
        """The assets that were left whole for the next run: they did not fit into the budget of GPU hours."""
        return tuple(asset for asset, status in self.statuses.items() if _is_whole(status))

    @property
    def counts(self) -> dict[Phase, int]:
        """Assets in each phase."""
        return dict(Counter(status.phase for status in self.statuses.values()))


def _is_whole(status: AssetStatus) -> bool:
    begun = (StageState.COMMITTED, StageState.CACHED)
    return status.phase is Phase.PENDING and not any(each.state in begun for each in status.stages.values())


def run_batch(
    plan: BatchPlan,
    settings: RunSettings,
    *,
    board: Board | None = None,
    cancel: threading.Event | None = None,
    runner: Runner | None = None,
    walks: Walks | None = None,
    eta: Eta | None = None,
) -> BatchOutcome:
    """Bring every asset of a plan as far as it gets. One asset's trouble never stops the others.

    Called from the main thread it handles SIGINT and SIGTERM: the work stops within seconds and the assets that were
    not finished are `cancelled`; the next run goes on from there. A second signal stops the program at once.

    Args:
        board: follows every change while the batch runs; `board.subscribe` before the call for a live display.
        cancel: set it from another thread to cancel.
        runner: where stages run; the settings' own when None. The caller closes what it gives.
        walks: how far the assets have got, where the caller has followed their commits already.
        eta: of the same, where the caller has it; it is told how many assets are in flight.

    Raises DigitizeError when the batch as a whole cannot run: its store or its Ray cluster cannot be reached.
    """
    start = time.monotonic()
    board = board or Board(plan.name)
    cancel = cancel or threading.Event()
    store = open_store(plan.store_uri)
    for asset in plan.assets:
        board.add(asset.id)
    _set_aside(plan, store, board)
    walks = Walks(plan, store) if walks is None else walks
    open_assets = _look_up(plan, store, board, walks)
    ran = _Ran()
    if open_assets:
        with _signals_set(cancel), StatusKeeper(board, store):
            try:
                if not cancel.is_set():
                    still_open = replace(plan, assets=tuple(open_assets))
                    ran = _run_open(still_open, _Shared(store, board, settings, cancel, walks, eta), runner)
                if cancel.is_set():
                    _cancel_rest(open_assets, board, Phase.PENDING)
            finally:
                _cancel_rest(open_assets, board, Phase.RUNNING)
    order = [asset.id for asset in plan.assets] + list(plan.unusable)
    return BatchOutcome(
        batch=plan.name,
        statuses={asset: board.get(asset) for asset in order},
        all_committed=not open_assets and not plan.unusable,
        cancelled=bool(open_assets) and cancel.is_set(),
        seconds=time.monotonic() - start,
        run=ran.run,
        gpu_hours=ran.gpu_hours,
        notes=ran.notes,
    )


def _set_aside(plan: BatchPlan, store: Store, board: Board) -> None:
    """Quarantine the assets whose sources are unusable."""
    for asset, error in plan.unusable.items():
        status = AssetStatus(
            batch=plan.name,
            asset=asset,
            phase=Phase.QUARANTINED,
            stages={stage: StageStatus(state=StageState.SKIPPED) for stage in registry.stages()},
            failure=Failure.of(error),
        )
        board.put(write_status(store, status))


def _look_up(plan: BatchPlan, store: Store, board: Board, walks: Walks) -> list[AssetPlan]:
    """Put the finished assets on the board; the others, in the plan's order."""

    def look(asset: AssetPlan) -> None:
        before = read_status(store, plan.name, asset.id)
        if asset.until is not None and before is not None and before.phase is Phase.DONE:
            board.put(before)  # it has gone further than is asked for
            return
        status = finished_status(asset, walks[asset.id], None if before is None else before.run)
        if before is None or (before.phase, before.verdict) != (status.phase, status.verdict):
            status = write_status(store, status)
        board.put(status)

    with ThreadPoolExecutor(_LOOKUPS) as pool:
        list(pool.map(look, [asset for asset in plan.assets if not walks.is_open(asset.id)]))
    return [asset for asset in plan.assets if walks.is_open(asset.id)]


@dataclass(frozen=True)
class _Shared:
    """What a run has at hand."""

    store: Store
    board: Board
    settings: RunSettings
    cancel: threading.Event
    walks: Walks
    eta: Eta | None


@dataclass(frozen=True)
class _Ran:
    """What is known of the run besides the statuses."""

    run: str | None = None
    gpu_hours: float = 0.0
    notes: tuple[str, ...] = ()


def _run_open(plan: BatchPlan, shared: _Shared, runner: Runner | None) -> _Ran:
    """Run the unfinished assets as one Prefect flow run."""
    from flows.prefect_server import local as local_prefect

    local_prefect.prepare()  # first: the temporary server starts while Ray does
    settings, store = shared.settings, shared.store
    own = make_runner(settings, store.uri) if runner is None else None
    used = runner or own
    assert used is not None
    try:
        somebody_looks = not local_prefect.is_temporary()
        eta = shared.eta or (_expect(plan, shared) if used.gpus() or somebody_looks else None)
        found, needs = prepare(plan.assets, eta, settings, store.uri, used)
        if eta is not None:
            eta.at_once = found.at_once
        turns = Turns(plan.assets, {asset: each.gpu_s for asset, each in needs.items()}, settings.gpu_hours)
        session = partial(_session, plan, shared, used, found.at_once, turns, eta)
        run = _in_thread(lambda: _run_flow(plan.name, session, shared.cancel), shared.cancel)
        return _Ran(run, turns.spent_gpu_s / 3600, found.notes)
    finally:
        if own is not None:
            own.close()


def _expect(plan: BatchPlan, shared: _Shared) -> Eta:
    """The time that the run is expected to take."""
    return Eta(forecast(plan, shared.walks, History.of(shared.store)))


def _session(plan: BatchPlan, shared: _Shared, runner: Runner, window: int, turns: Turns, eta: Eta | None) -> Session:
    from flows.batch_flow import Session

    plans = {asset.id: asset for asset in plan.assets}
    return Session(plans, shared.store, shared.board, runner, shared.cancel, window, turns, shared.walks, eta)


def _cancel_rest(assets: list[AssetPlan], board: Board, phase: Phase) -> None:
    """Mark the assets that a run has left in `phase` as cancelled."""
    for asset in assets:
        if board.get(asset.id).phase is phase:
            board.change(asset.id, phase=Phase.CANCELLED)


def _run_flow(batch: str, session: Callable[[], Session], cancel: threading.Event) -> str | None:
    """Run the flow once its server answers.

    Args:
        session: makes what the tasks share: it imports Prefect, which reads its settings then.
    """
    from flows.prefect_server import local as local_prefect

    local_prefect.quiet()
    if not local_prefect.wait_ready(cancel):
        return None
    try:
        from flows.batch_flow import run_flow

        return run_flow(batch, session())
    except DigitizeError:
        raise
    except Exception as error:
        raise DigitizeError(
            ReasonCode.WORKER_LOST,
            f"the Prefect flow run ended early: {type(error).__name__}: {error}",
            hint=f"Check PREFECT_API_URL, or unset it to run without a server; log: {local_prefect.log_file()}",
            retryable=True,
        ) from error


_R = TypeVar("_R")


def _in_thread(function: Callable[[], _R], cancel: threading.Event) -> _R:
    """Call a function in a thread of its own, so that this one is free for signals and Prefect installs no handlers.

    This one tidies the heap meanwhile. An exception here, a second Ctrl-C for example, cancels the work and does not
    wait for it.
    """
    outcome: Future[_R] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=work, name="digitize-batch", daemon=True)
    thread.start()
    try:
        tidied = time.monotonic()
        while thread.is_alive():
            thread.join(_POLL_S)
            if time.monotonic() - tidied > _TIDY_S:
                give_back()
                tidied = time.monotonic()
    except BaseException:
        cancel.set()
        raise
    finally:
        give_back()
    return outcome.result()


@contextmanager
def _signals_set(cancel: threading.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets `cancel`; the second one does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        cancel.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        for number in before:
            signal.signal(number, on_signal)
        yield
    finally:
        restore()
