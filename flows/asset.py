"""The stages of one asset, and what happens when one rejects it, fails, or is cancelled. Knows no Prefect."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from flows.plan.committed import AssetPlan
from flows.plan.walk import Walk, walk
from flows.runner.base import Runner
from flows.runner.step_down import RunStage, run_stepping_down
from flows.status.board import Board
from flows.status.files import committed
from flows.status.leases import Leases
from models.errors import DigitizeError, ReasonCode
from models.lease import Lease
from models.quality import GateOutcome, Verdict
from models.results import Done, StageRequest
from models.stage import Stage
from models.status import AssetStatus, Failure, Phase, StageState, StageStatus
from models.store import Store
from tasks import registry

_log = logging.getLogger("digitize.asset")


def finished_status(plan: AssetPlan, found: Walk, run: str | None = None) -> AssetStatus:
    """The status that commits alone tell of an asset with nothing left to do."""
    stages = {stage: StageStatus(**committed(done, cached=True)) for stage, done in found.done.items()}
    return AssetStatus(
        batch=plan.batch,
        asset=plan.id,
        phase=_phase(found),
        verdict=_verdict(found),
        stages=stages | _not_run(found),
        reasons=found.reasons,
        gates=gates_applied(found),
        rejected=found.tried,
        run=run,
    )


def gates_applied(found: Walk) -> dict[Stage, tuple[GateOutcome, ...]]:
    """The outcomes of the gates by stage, for the status: without those on what nobody had to measure."""
    applied = {
        stage: tuple(each for each in judgement.outcomes if each.value is not None or not each.passed)
        for stage, judgement in found.judgements.items()
    }
    return {stage: outcomes for stage, outcomes in applied.items() if outcomes}


def _stops_early(found: Walk) -> bool:
    """Whether the line was asked for in part, and went as far."""
    return found.plan.until is not None and not found.rejected


def _phase(found: Walk) -> Phase:
    if _stops_early(found):
        return Phase.PENDING
    return Phase.REJECTED if found.rejected else Phase.DONE


def _verdict(found: Walk) -> Verdict | None:
    return None if _stops_early(found) else found.verdict


def _not_run(found: Walk) -> dict[Stage, StageStatus]:
    """The stages that did not run: nothing needs them, the asset was rejected before, or they are not asked for yet."""
    skipped = set(found.plan.skipped) if _stops_early(found) else set(registry.stages())
    return {
        stage: StageStatus(state=StageState.SKIPPED) if stage in skipped else StageStatus()
        for stage in registry.stages()
        if stage not in found.done
    }


def run_asset(
    plan: AssetPlan,
    store: Store,
    board: Board,
    run_stage: RunStage,
    run: str | None = None,
    begun: Walk | None = None,
) -> AssetStatus:
    """Bring an asset as far as it gets and keep its status on the board. Raises nothing that concerns one asset.

    Args:
        begun: how far it had got, where its commits have been followed already. What was committed since is taken over
            when its stage is about to run.

    Returns the final status: done, rejected, quarantined (with the failure) or cancelled.
    """
    board.put(AssetStatus(batch=plan.batch, asset=plan.id, phase=Phase.RUNNING, run=run))
    found, stage = Walk(plan), next(iter(plan.stages))
    try:
        found = _show(begun or walk(plan, store), board)
        known = {done.key: done for done in found.done.values()}
        while found.request is not None:
            stage = found.request.stage
            board.change_stage(plan.id, stage, state=StageState.RUNNING, key=found.request.key)
            say = partial(_say, board, plan.id, stage)
            done = run_stepping_down(found.plan.stages[stage].ladder, found.request, store, run_stage, say)
            board.change_stage(plan.id, stage, **committed(done, cached=False))
            found.done[stage] = known[done.key] = done
            board.change(plan.id, gates=gates_applied(found))
            found.request = found.next_request
            if (found.rejected or found.held) and plan.fallbacks:
                found = _show(walk(plan, store, known), board)
    except DigitizeError as error:
        return _stopped(plan, board, found, stage, error)
    except Exception as error:
        _log.exception("asset %s, stage %s: unexpected error", plan.id, stage)
        failure = DigitizeError(ReasonCode.INTERNAL, f"{type(error).__name__}: {error}", asset=plan.id)
        return _stopped(plan, board, found, stage, failure)
    return _finished(plan, board, found)


def _show(found: Walk, board: Board) -> Walk:
    """Put what is committed on the board, and that stages wait which another choice of methods had run already."""
    asset, before = found.plan.id, board.get(found.plan.id).stages
    for stage in found.plan.skipped:
        board.change_stage(asset, stage, state=StageState.SKIPPED)
    for stage in found.plan.stages:
        if stage in found.done:
            cached = before.get(stage, StageStatus()).state is not StageState.COMMITTED
            board.change_stage(asset, stage, **committed(found.done[stage], cached=cached))
        elif stage in before:
            board.change_stage(asset, stage, **vars(StageStatus()))
    if found.tried:
        board.change(asset, rejected=found.tried)
        _log.warning("asset %s: %s", asset, "; ".join(map(str, found.tried)))
    return found


def _say(board: Board, asset: str, stage: Stage, message: str) -> None:
    _log.warning("asset %s, stage %s: %s", asset, stage, message)
    board.change_stage(asset, stage, share=0.0, message=message)


def _finished(plan: AssetPlan, board: Board, found: Walk) -> AssetStatus:
    status = board.get(plan.id)
    return board.change(
        plan.id,
        phase=_phase(found),
        verdict=_verdict(found),
        reasons=found.reasons,
        gates=gates_applied(found),
        rejected=found.tried,
        stages=status.stages | _not_run(found),
    )


def _stopped(plan: AssetPlan, board: Board, found: Walk, stage: Stage, error: DigitizeError) -> AssetStatus:
    """A cancelled stage waits for the next run; a failed one stops its asset."""
    was_cancelled = error.code is ReasonCode.CANCELLED
    before = board.get(plan.id)
    state = StageState.PENDING if was_cancelled else StageState.FAILED
    changed = before.stages.get(stage, StageStatus()).model_copy(update={"state": state, "message": error.message})
    later = [each for each in registry.stages() if registry.position(each) > registry.position(stage)]
    skipped = {} if was_cancelled else {each: StageStatus(state=StageState.SKIPPED) for each in later}
    return board.change(
        plan.id,
        phase=Phase.CANCELLED if was_cancelled else Phase.QUARANTINED,
        failure=None if was_cancelled else Failure.of(error, stage),
        reasons=found.reasons,
        gates=gates_applied(found),
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
