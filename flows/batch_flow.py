"""The batch as a Prefect flow: a task run an asset, within it a task run a stage. The only module that knows Prefect.

Assets are task runs and not subflows: a subflow costs about a second before it starts, a task run a few milliseconds.
Prefect keeps no results and caches nothing: the commits in the store do both. `flows.prefect_server.local.prepare` must
have run before this module is imported: Prefect reads its settings on import.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from uuid import UUID

from prefect import flow, get_client, runtime, tags, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext, TagsContext
from prefect.states import Cancelled, Completed, Crashed, Failed
from prefect.utilities.annotations import quote

from flows.asset import run_asset, run_with_progress
from flows.forecast.eta import Eta
from flows.forecast.scheduling import Turns
from flows.plan.committed import AssetPlan
from flows.plan.walk import Walk
from flows.prefect_server import local as local_prefect
from flows.prefect_server.events import told
from flows.runner.base import Runner
from flows.status.board import Board
from flows.status.leases import Leases
from models.errors import DigitizeError, ReasonCode
from models.lease import Lease
from models.results import Done, StageRequest
from models.status import AssetStatus, Phase
from models.store import Store

RETRIES = 2
RETRY_DELAY_S = 2
_log = logging.getLogger("digitize.flow")

_POLL_S = 2.0
"""Between two looks at whether somebody cancelled the flow run on the server."""


@dataclass(frozen=True)
class Session:
    """What the tasks of one batch share. It never passes through Prefect, which would have to pickle it."""

    plans: dict[str, AssetPlan]
    store: Store
    board: Board
    runner: Runner
    cancel: threading.Event
    window: int
    """Assets in flight."""
    turns: Turns
    walks: Mapping[str, Walk]
    """How far the assets had got when the run began."""
    eta: Eta | None = None
    """None where nobody looks."""
    leases: Leases | None = None
    """Held while the flow runs."""
    ended: str | None = None
    """Prefect's id of the flow run, once its work is done."""


_sessions: dict[str, Session] = {}


def run_flow(batch: str, session: Session) -> str | None:
    """Run the assets of a session as one Prefect flow run and return its id."""
    token = f"{batch}-{id(session)}"
    _sessions[token] = session
    try:
        with told(somebody_looks=not local_prefect.is_temporary()), tags("digitize", f"batch:{batch}"):
            state: State[Any] = digitize_batch(batch, list(session.plans), token, return_state=True)
    except Exception as error:  # whatever it is: with the work done, a server that could not be told changes nothing
        if (run := _sessions[token].ended) is None:
            raise
        _log.warning("the Prefect server could not be told that run %s is over: %s", run, error)
        return run
    finally:
        del _sessions[token]
    if state.is_failed() or state.is_crashed():
        state.result(raise_on_failure=True)
    run_id = state.state_details.flow_run_id
    return None if run_id is None else str(run_id)


def _run_name() -> str:
    """The batch, and the asset where it is one alone."""
    given = runtime.flow_run.parameters
    assets = given["assets"]
    return f"{given['batch']}: {assets[0] if len(assets) == 1 else f'{len(assets)} assets'}"


@flow(name="digitize_batch", flow_run_name=_run_name, persist_result=False, validate_parameters=False)
def digitize_batch(batch: str, assets: list[str], session: str) -> State[Any]:
    """Run the assets of a batch in a window. `session` names what this process holds for the run."""
    shared = _sessions[session]
    context = FlowRunContext.get()
    run = None if context is None or context.flow_run is None else str(context.flow_run.id)
    over = threading.Event()
    watcher = threading.Thread(target=_watch_server, args=(run, shared.cancel, over), daemon=True)
    watcher.start()
    try:
        # The tags are the flow run's alone. A task with tags asks the server for a place under each tag's limit before
        # it runs: a request a stage, and a server that is away or busy (503) would fail the asset.
        with Leases(shared.store, run, _end_ghost) as leases, TagsContext(current_tags=set()):
            _sessions[session] = replace(shared, leases=leases)
            with _shown(batch, shared):
                _run_window(session, run, min(shared.window, len(assets)))
    finally:
        over.set()
        watcher.join(_POLL_S)  # it may be waiting for a server that is away
    statuses = shared.board.all()
    from flows.prefect_server.artifacts import artifact_key

    try:
        create_table_artifact(
            key=f"digitize-{artifact_key(batch)}", table=_table(statuses), description=f"Batch {batch}"
        )
    except Exception as error:  # a server that is away: the work is done, and the statuses in the store tell of it
        _log.warning("the table of batch %s could not be sent to the Prefect server: %s", batch, error)
    _sessions[session] = replace(_sessions[session], ended=run)
    if shared.cancel.is_set():
        return Cancelled(message="the run was cancelled")
    return Completed(message=_summary(statuses))


def _shown(batch: str, shared: Session) -> AbstractContextManager[None]:
    """Progress, pages and pictures in the UI of a server that people can look at."""
    if local_prefect.is_temporary():
        return nullcontext()
    from flows.prefect_server.artifacts import watched

    return watched(batch, shared.board, shared.store, shared.eta)


def _run_window(session: str, run: str | None, window: int) -> None:
    """Run assets in `window` threads, each of which takes the next one when it is free, until none is left that may
    start or the run is cancelled."""
    cancel, turns = _sessions[session].cancel, _sessions[session].turns

    def work() -> None:
        while (asset := turns.next(cancel.is_set)) is not None:
            try:
                with _own_memory():
                    digitize_asset(asset, session, run, return_state=True)
            finally:
                turns.finished(asset)

    with ThreadPoolExecutor(window, thread_name_prefix="asset") as pool:
        # Prefect knows by context variables which flow run a task belongs to
        futures = [pool.submit(contextvars.copy_context().run, work) for _ in range(window)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            cancel.set()
            raise


def _own_memory() -> AbstractContextManager[Any]:
    """The flow run's context with a memory that ends with the asset: Prefect keeps each task run's state until the flow
    run is over, to know later which result came from which task, and nothing here asks for that."""
    context = FlowRunContext.get()
    return nullcontext() if context is None else context.model_copy(update={"run_results": {}, "task_run_assets": {}})


@task(name="asset", task_run_name="{asset}", persist_result=False, cache_policy=NO_CACHE)
def digitize_asset(asset: str, session: str, run: str | None) -> State[Any]:
    """All stages of one asset. Its state carries the asset's phase as name."""
    shared = _sessions[session]

    def run_stage(request: StageRequest) -> Done:
        return _task_of(str(request.stage))(asset, str(request.stage), quote(request), session)

    status = run_asset(shared.plans[asset], shared.store, shared.board, run_stage, run, shared.walks[asset])
    name = status.phase.capitalize()
    if status.phase is Phase.CANCELLED:
        return Cancelled(message="the run was cancelled")
    if status.failure is not None:
        return Failed(name=name, message=f"[{status.failure.code}] {status.failure.message}")
    message = "; ".join(f"[{reason.code}] {reason.message}" for reason in status.reasons) or str(status.verdict)
    return Completed(name=name, message=message)


def _worth_retrying(task: Any, task_run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, DigitizeError) and error.retryable and error.code is not ReasonCode.CANCELLED


@task(
    task_run_name="{asset} {stage}",
    persist_result=False,
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    retry_condition_fn=_worth_retrying,
)
def digitize_stage(asset: str, stage: str, request: StageRequest, session: str) -> Done:
    """One stage of one asset, wherever the runner puts it. The caller quotes the request so that Prefect does
    not search it for futures."""
    shared = _sessions[session]
    assert shared.leases is not None
    share = shared.runner.gpu_share(request.resources)
    started = time.monotonic()

    def charge(done: Done | None) -> None:
        """What failed is charged with its wall time, waiting for a place included."""
        if share:
            shared.turns.charge(asset, share * (done.seconds if done else time.monotonic() - started))

    return run_with_progress(shared.runner, shared.board, shared.leases, request, shared.cancel.is_set, charge)


@cache
def _task_of(stage: str) -> Callable[..., Done]:
    """The task under its stage's name. Kept: to make one costs as much as to run it."""
    named: Callable[..., Done] = digitize_stage.with_options(name=stage)
    return named


def _watch_server(run: str | None, cancel: threading.Event, over: threading.Event) -> None:
    """Cancel when somebody cancels the flow run on the server. A server that does not answer changes nothing."""
    if run is None:
        return
    with get_client(sync_client=True) as client:
        while not over.wait(_POLL_S):
            try:
                state = client.read_flow_run(UUID(run)).state
            except Exception:  # whatever it is (network, restart, a run that was deleted): ask again, the work goes on
                continue
            if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                cancel.set()
                return


def _end_ghost(lease: Lease) -> None:
    """Say on the server that a run whose work was taken over has crashed: its process can no longer say so itself."""
    if lease.run is None:
        return
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(lease.run)).state
            if state is not None and not state.is_final():
                lost: State[Any] = Crashed(message="its process is gone; another run has taken its work over")
                client.set_flow_run_state(UUID(lease.run), lost, force=True)
    except Exception as error:  # another server, a run that was deleted, no network: the work goes on all the same
        _log.warning("run %s is lost, and the server could not be told: %s", lease.run, error)


def _table(statuses: Sequence[AssetStatus]) -> list[list[Any]]:
    rows: list[list[Any]] = [["asset", "phase", "verdict", "seconds", "why"]]
    for status in statuses:
        seconds = sum(stage.seconds or 0.0 for stage in status.stages.values())
        why = [f"[{reason.code}] {reason.message}" for reason in status.reasons]
        if status.failure is not None:
            why.append(f"[{status.failure.code}] {status.failure.message}")
        rows.append([status.asset, str(status.phase), str(status.verdict or ""), round(seconds, 1), "; ".join(why)])
    return rows


def _summary(statuses: Sequence[AssetStatus]) -> str:
    counts = Counter(status.phase for status in statuses)
    words = {Phase.PENDING: "left for the next run: the budget of GPU hours is spent"}
    return ", ".join(f"{counts[phase]} {words.get(phase, phase)}" for phase in Phase if counts[phase])
