"""The stages of one asset, and what happens when one rejects it, fails, or is cancelled. Knows no Prefect."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from flows.leases import Leases
from flows.plan import AssetPlan
from flows.progress import Board
from flows.runner import Runner
from flows.state import committed
from flows.stepping import RunStage, run_stepping_down
from models.errors import DigitizeError, ReasonCode
from models.lease import Lease
from models.quality import Verdict, worst
from models.results import STAGES, Done, Reason, Stage, StageRequest
from models.status import AssetStatus, Failure, Phase, StageState, StageStatus
from models.store import Store
from tasks.commit import find_done

_log = logging.getLogger("digitize.asset")


@dataclass
class Walk:
    """How far an asset has got: what is committed, and the request that comes next."""

    done: dict[Stage, Done] = field(default_factory=dict)
    request: StageRequest | None = None
    """None when nothing is left to do: all stages are committed, or one of them rejected the asset."""

    @property
    def rejected(self) -> bool:
        """Whether a committed stage found the asset unfit."""
        return any(done.result.verdict is Verdict.REJECT for done in self.done.values())

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why the asset was rejected or is to be reviewed, in the order of the stages."""
        return tuple(reason for done in self.done.values() for reason in done.result.reasons)

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict so far."""
        return worst(done.result.verdict for done in self.done.values())


def walk(plan: AssetPlan, store: Store) -> Walk:
    """Follow an asset through its commits to the first stage that is not committed."""
    found = Walk()
    for stage in STAGES:
        request = plan.request(stage, found.done)
        done = find_done(store, request)
        if done is None:
            found.request = request
            return found
        found.done[stage] = done
        if done.result.verdict is Verdict.REJECT:
            return found
    return found


def finished_status(plan: AssetPlan, found: Walk, run: str | None = None) -> AssetStatus:
    """The status that commits alone tell of an asset with nothing left to do."""
    stages = {stage: StageStatus(**committed(done, cached=True)) for stage, done in found.done.items()}
    skipped = {stage: StageStatus(state=StageState.SKIPPED) for stage in STAGES if stage not in stages}
    return AssetStatus(
        batch=plan.batch,
        asset=plan.id,
        phase=Phase.REJECTED if found.rejected else Phase.DONE,
        verdict=found.verdict,
        stages=stages | skipped,
        reasons=found.reasons,
        run=run,
    )


def run_asset(plan: AssetPlan, store: Store, board: Board, run_stage: RunStage, run: str | None = None) -> AssetStatus:
    """Bring an asset as far as it gets and keep its status on the board. Raises nothing that concerns one asset.

    Returns the final status: done, rejected, quarantined (with the failure) or cancelled.
    """
    board.put(AssetStatus(batch=plan.batch, asset=plan.id, phase=Phase.RUNNING, run=run))
    found, stage = Walk(), STAGES[0]
    try:
        found = walk(plan, store)
        for known, done in found.done.items():
            board.change_stage(plan.id, known, **committed(done, cached=True))
        while found.request is not None:
            stage = found.request.stage
            board.change_stage(plan.id, stage, state=StageState.RUNNING, key=found.request.key)
            say = partial(_say, board, plan.id, stage)
            done = run_stepping_down(plan.stages[stage].ladder, found.request, store, run_stage, say)
            board.change_stage(plan.id, stage, **committed(done, cached=False))
            found.done[stage] = done
            found.request = None if found.rejected else _next_request(plan, found.done)
    except DigitizeError as error:
        return _stopped(plan, board, found, stage, error)
    except Exception as error:
        _log.exception("asset %s, stage %s: unexpected error", plan.id, stage)
        failure = DigitizeError(ReasonCode.INTERNAL, f"{type(error).__name__}: {error}", asset=plan.id)
        return _stopped(plan, board, found, stage, failure)
    return _finished(plan, board, found)


def _say(board: Board, asset: str, stage: Stage, message: str) -> None:
    _log.warning("asset %s, stage %s: %s", asset, stage, message)
    board.change_stage(asset, stage, share=0.0, message=message)


def _next_request(plan: AssetPlan, done: dict[Stage, Done]) -> StageRequest | None:
    left = [stage for stage in STAGES if stage not in done]
    return plan.request(left[0], done) if left else None


def _finished(plan: AssetPlan, board: Board, found: Walk) -> AssetStatus:
    status = board.get(plan.id)
    skipped = {stage: StageStatus(state=StageState.SKIPPED) for stage in STAGES if stage not in found.done}
    return board.change(
        plan.id,
        phase=Phase.REJECTED if found.rejected else Phase.DONE,
        verdict=found.verdict,
        reasons=found.reasons,
        stages=status.stages | skipped,
    )


def _stopped(plan: AssetPlan, board: Board, found: Walk, stage: Stage, error: DigitizeError) -> AssetStatus:
    """A cancelled stage waits for the next run; a failed one stops its asset."""
    was_cancelled = error.code is ReasonCode.CANCELLED
    before = board.get(plan.id)
    state = StageState.PENDING if was_cancelled else StageState.FAILED
    changed = before.stages.get(stage, StageStatus()).model_copy(update={"state": state, "message": error.message})
    later = STAGES[STAGES.index(stage) + 1 :]
    skipped = {} if was_cancelled else {each: StageStatus(state=StageState.SKIPPED) for each in later}
    return board.change(
        plan.id,
        phase=Phase.CANCELLED if was_cancelled else Phase.QUARANTINED,
        failure=None if was_cancelled else Failure.of(error, stage),
        reasons=found.reasons,
        stages=before.stages | {stage: changed} | skipped,
    )


def run_with_progress(
    runner: Runner,
    board: Board,
    leases: Leases,
    request: StageRequest,
    cancelled: Callable[[], bool],
    charge: Callable[[Done | None], None],
) -> Done:
    """Run one stage while its lease is held, and show its progress on the board.

    Args:
        charge: called with the commit, or None for a failure, when the stage was really run for this run.
    """

    def on_progress(share: float, message: str, facts: dict[str, object]) -> None:
        board.change_stage(request.asset, request.stage, share=share, message=message, facts=facts)

    def on_waiting(lease: Lease) -> None:
        where = lease.host.partition(" ")[0] or "somewhere"
        board.change_stage(request.asset, request.stage, message=f"another run on {where} is at work on this stage")

    if cancelled():
        raise DigitizeError(ReasonCode.CANCELLED, "the run was cancelled", retryable=True, asset=request.asset)
    with leases.hold(request, cancelled, on_waiting) as others:
        if others is not None:
            return others
        done = None
        try:
            done = runner.run(request, on_progress, cancelled)
            return done
        finally:
            charge(done)
