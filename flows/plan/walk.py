"""How far an asset has got, as its commits tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from flows.plan.committed import AssetPlan
from models.quality import Verdict, worst
from models.results import Done, Reason, RejectedChain, StageRequest
from models.stage import Stage
from models.store import Store
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
