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
from models.results import Done, Reason, RejectedChain, StageRequest
from models.stage import Stage
from models.status import AssetStatus, Failure, Phase, StageState, StageStatus
from models.store import Store
from tasks import registry
from tasks.commit import find_done

_log = logging.getLogger("digitize.asset")


@dataclass
class Walk:
    """How far an asset has got: what is committed, and the request that comes next."""

    plan: AssetPlan
    """With the choice of methods that is in use."""
    done: dict[Stage, Done] = field(default_factory=dict)
    request: StageRequest | None = None
    """None when nothing is left to do: all stages are committed, or one of them rejected the asset."""
    tried: tuple[RejectedChain, ...] = ()
    """The other choices of methods, whose results were rejected or sent to review."""
    others: bool = False
    """Whether another choice may turn out better: what is to be reviewed then waits for it."""

    @property
    def rejected(self) -> bool:
        """Whether a committed stage found the asset unfit."""
        return self.rejecting is not None

    @property
    def rejecting(self) -> Done | None:
        """The commit that found the asset unfit."""
        return next((done for done in self.done.values() if done.result.verdict is Verdict.REJECT), None)

    @property
    def held(self) -> Done | None:
        """The commit that would send the asset to review, while another choice of methods may do better."""
        done = self.done.get(Stage.QUALITY)
        waits = self.others and done is not None and done.result.verdict is Verdict.REVIEW
        return done if waits else None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why the asset was rejected or is to be reviewed, in the order of the stages."""
        return tuple(reason for done in self.done.values() for reason in done.result.reasons)

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict so far."""
        return worst(done.result.verdict for done in self.done.values())

    @property
    def next_request(self) -> StageRequest | None:
        """The request of the first stage that is not committed; None after a rejection, at the end, and while held."""
        left = [stage for stage in self.plan.stages if stage not in self.done]
        stops = not left or self.rejected or self.held is not None
        return None if stops else self.plan.request(left[0], self.done, self.tried)


def walk(plan: AssetPlan, store: Store) -> Walk:
    """Follow an asset through its commits to the first stage that is not committed.

    Where a stage has several methods, their chains are followed in turn, each until a commit rejects the asset or the
    quality stage sends it to review. Where no chain is accepted, the one with the fewest reasons for review goes on.
    What is in use is so a function of the commits alone: every command and every machine sees the same.
    """
    return all_walks(plan, store)[-1]


def all_walks(plan: AssetPlan, store: Store) -> list[Walk]:
    """The chains of an asset that were tried, each up to the commit that stopped it; the one in use comes last."""
    walks: list[Walk] = []
    tried: dict[str, RejectedChain] = {}
    held: list[Walk] = []
    chains = plan.alternatives
    for number, chain in enumerate(chains):
        others = number + 1 < len(chains) or bool(held)
        found = _follow(chain, store, tuple(tried.values()), others)
        unfit = found.rejecting or found.held
        if unfit is not None and unfit.key in tried:
            continue  # it shares the commit with one before
        walks.append(found)
        if unfit is None:
            return walks
        if found.held is not None:
            held.append(found)
        methods = {stage: chain.stages[stage].method for stage in plan.choices if stage in chain.stages}
        tried[unfit.key] = RejectedChain(
            methods=methods,
            stage=unfit.stage,
            key=unfit.key,
            reasons=unfit.result.reasons,
            verdict=unfit.result.verdict,
        )
    if held:
        best = min(held, key=lambda each: len(each.reasons))
        own = best.held
        rest = tuple(each for key, each in tried.items() if own is None or key != own.key)
        walks.append(_follow(best.plan, store, rest, others=False))
    return walks


def _follow(plan: AssetPlan, store: Store, tried: tuple[RejectedChain, ...], others: bool) -> Walk:
    found = Walk(plan, tried=tried, others=others)
    while (request := found.next_request) is not None:
        done = find_done(store, request)
        if done is None:
            found.request = request
            return found
        found.done[request.stage] = done
    return found


def finished_status(plan: AssetPlan, found: Walk, run: str | None = None) -> AssetStatus:
    """The status that commits alone tell of an asset with nothing left to do."""
    stages = {stage: StageStatus(**committed(done, cached=True)) for stage, done in found.done.items()}
    return AssetStatus(
        batch=plan.batch,
        asset=plan.id,
        phase=Phase.REJECTED if found.rejected else Phase.DONE,
        verdict=found.verdict,
        stages=stages | _not_run(found),
        reasons=found.reasons,
        rejected=found.tried,
        run=run,
    )


def _not_run(found: Walk) -> dict[Stage, StageStatus]:
    """The stages that did not run: nothing needs them, or the asset was rejected before."""
    return {stage: StageStatus(state=StageState.SKIPPED) for stage in registry.stages() if stage not in found.done}


def run_asset(plan: AssetPlan, store: Store, board: Board, run_stage: RunStage, run: str | None = None) -> AssetStatus:
    """Bring an asset as far as it gets and keep its status on the board. Raises nothing that concerns one asset.

    Returns the final status: done, rejected, quarantined (with the failure) or cancelled.
    """
    board.put(AssetStatus(batch=plan.batch, asset=plan.id, phase=Phase.RUNNING, run=run))
    found, stage = Walk(plan), next(iter(plan.stages))
    try:
        found = _show(walk(plan, store), board)
        while found.request is not None:
            stage = found.request.stage
            board.change_stage(plan.id, stage, state=StageState.RUNNING, key=found.request.key)
            say = partial(_say, board, plan.id, stage)
            done = run_stepping_down(found.plan.stages[stage].ladder, found.request, store, run_stage, say)
            board.change_stage(plan.id, stage, **committed(done, cached=False))
            found.done[stage] = done
            found.request = found.next_request
            if (found.rejected or found.held) and plan.fallbacks:
                found = _show(walk(plan, store), board)
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
        phase=Phase.REJECTED if found.rejected else Phase.DONE,
        verdict=found.verdict,
        reasons=found.reasons,
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
