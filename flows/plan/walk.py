"""How far an asset has got, as its commits tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from flows.plan.committed import AssetPlan
from models.quality import Verdict, worst
from models.results import Done, Reason, RejectedChain, StageRequest
from models.stage import Stage
from models.store import Store
from models.verdict import Judgement, judge_missing, judge_stage
from tasks.commit import find_done


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
    _judged: dict[tuple[Stage, int], Judgement] = field(default_factory=dict, repr=False, compare=False)
    """By stage and number of commits: asked for after every one of them."""

    def judgement(self, stage: Stage) -> Judgement:
        """What a committed stage makes of the asset: its own verdict and the gates on what it measured. Once the
        quality stage is committed, required metrics that nobody measured count with it."""
        key = (stage, len(self.done) if stage is Stage.QUALITY else 0)
        if key not in self._judged:
            found = judge_stage(self.done[stage].result, self.plan.gates)
            if stage is Stage.QUALITY:
                results = [each.result for each in self.done.values()]
                found = Judgement.of_all((found, judge_missing(results, self.plan.gates)))
            self._judged[key] = found
        return self._judged[key]

    @property
    def judgements(self) -> dict[Stage, Judgement]:
        """Of each committed stage."""
        return {stage: self.judgement(stage) for stage in self.done}

    @property
    def rejected(self) -> bool:
        """Whether a committed stage found the asset unfit, or a gate on its metrics did."""
        return self.rejecting is not None

    @property
    def rejecting(self) -> Done | None:
        """The commit that makes the asset unfit."""
        found = (self.done[stage] for stage, each in self.judgements.items() if each.verdict is Verdict.REJECT)
        return next(found, None)

    @property
    def held(self) -> Done | None:
        """The commit that would send the asset to review, while another choice of methods may do better."""
        if not self.others or Stage.QUALITY not in self.done:
            return None
        waits = self.judgement(Stage.QUALITY).verdict is Verdict.REVIEW
        return self.done[Stage.QUALITY] if waits else None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why the asset was rejected or is to be reviewed, in the order of the stages."""
        return Judgement.of_all(self.judgements.values()).reasons

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict so far."""
        return worst(each.verdict for each in self.judgements.values())

    @property
    def next_request(self) -> StageRequest | None:
        """The request of the first stage that is not committed; None at the end, while held, and after a rejection.

        Where the rejected asset was measured and no other choice of methods is left, the last stages still run: they
        publish nothing and write the report that says why.
        """
        left = [stage for stage in self.plan.stages if stage not in self.done]
        ends = self.rejected and (self.others or Stage.QUALITY not in self.done)
        stops = not left or ends or self.held is not None
        return None if stops else self.plan.request(left[0], self.done, self.tried)


Find = Callable[[StageRequest], Done | None]
"""Looks a stage's commit up."""
_NOTHING: Mapping[str, Done] = MappingProxyType({})


def walk(plan: AssetPlan, store: Store, known: Mapping[str, Done] = _NOTHING) -> Walk:
    """Follow an asset through its commits to the first stage that is not committed.

    Where a stage has several methods, their chains are followed in turn, each until a commit rejects the asset or the
    quality stage sends it to review. Where no chain is accepted, the one with the fewest reasons for review goes on.
    What is in use is so a function of the commits alone: every command and every machine sees the same.

    Args:
        known: commits by key, which are not looked up again.
    """
    return all_walks(plan, store, known)[-1]


def all_walks(plan: AssetPlan, store: Store, known: Mapping[str, Done] = _NOTHING) -> list[Walk]:
    """The chains of an asset that were tried, each up to the commit that stopped it; the one in use comes last."""
    find = _looking_once(store, known)
    walks: list[Walk] = []
    tried: dict[str, RejectedChain] = {}
    held: list[Walk] = []
    chains = plan.alternatives
    for number, chain in enumerate(chains):
        others = number + 1 < len(chains) or bool(held)
        found = _follow(chain, find, tuple(tried.values()), others)
        unfit = found.rejecting or found.held
        if unfit is not None and unfit.key in tried:
            continue  # it shares the commit with one before
        walks.append(found)
        if unfit is None:
            return walks
        if found.held is not None:
            held.append(found)
        methods = {stage: chain.stages[stage].method for stage in plan.choices if stage in chain.stages}
        judgement = found.judgement(unfit.stage)
        tried[unfit.key] = RejectedChain(
            methods=methods,
            stage=unfit.stage,
            key=unfit.key,
            reasons=judgement.reasons,
            verdict=judgement.verdict,
        )
    if held:
        best = min(held, key=lambda each: len(each.reasons))
        own = best.held
        rest = tuple(each for key, each in tried.items() if own is None or key != own.key)
        walks.append(_follow(best.plan, find, rest, others=False))
    return walks


def _looking_once(store: Store, known: Mapping[str, Done]) -> Find:
    """`find_done` that reads each commit once: chains of methods share their first stages."""
    found = dict(known)

    def find(request: StageRequest) -> Done | None:
        if request.key not in found and (done := find_done(store, request)) is not None:
            found[request.key] = done
        return found.get(request.key)

    return find


def _follow(plan: AssetPlan, find: Find, tried: tuple[RejectedChain, ...], others: bool) -> Walk:
    found = Walk(plan, tried=tried, others=others)
    while (request := found.next_request) is not None:
        done = find(request)
        if done is None:
            found.request = request
            return found
        found.done[request.stage] = done
    return found
