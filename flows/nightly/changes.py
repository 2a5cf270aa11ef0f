"""What a night has to do: which assets changed against what is published and how they last ended, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from flows.plan.committed import AssetPlan, BatchPlan, StagePlan
from infra.catalogue import Outcome, Published
from models.digest import digest_of
from models.stage import Stage
from models.status import Phase

_RESULTS = frozenset({Phase.DONE.value, Phase.REJECTED.value})


class Need(StrEnum):
    """What a night does with an asset."""

    RUN = "run"
    KEEP = "keep"
    """Nothing changed since it ended with a result."""
    PARKED = "parked"
    """Nothing changed, and it failed as often as a night tries; it waits for a change, or for `digitize run`."""


@dataclass(frozen=True)
class Change:
    """One asset's need and why."""

    asset: str
    need: Need
    why: str


def asked_for(plan: AssetPlan) -> dict[str, list[str]]:
    """What a plan asks of each stage, comparable with `Outcome.stages`: method, version, digest of the options."""
    stages = {str(stage): _asked(each) for stage, each in plan.stages.items()}
    others = [{str(stage): _asked(each) for stage, each in chain.items()} for chain in plan.fallbacks]
    return stages | {"seed": [str(plan.seed)]} | ({"fallbacks": [digest_of(others)]} if others else {})


def _asked(plan: StagePlan) -> list[str]:
    return [plan.method, plan.version, digest_of(plan.options)]


def sources_digest(plan: AssetPlan) -> str:
    """Changes with anything that the user gave for an asset: photos, masks, poses, truth."""
    return digest_of({name: ref.digest for name, ref in plan.sources.items()})


def find_changes(
    plan: BatchPlan, outcomes: Mapping[str, Outcome], published: Sequence[Mapping[str, Published]], tries: int
) -> list[Change]:
    """Compare every asset of a plan with the catalogue, in the plan's order.

    Args:
        outcomes: how each asset last ended, by asset.
        published: what is in force at each target, by asset.
        tries: attempts that an unchanged asset gets.
    """
    return [_change(asset, outcomes.get(asset.id), published, tries) for asset in plan.assets]


def _change(
    plan: AssetPlan, outcome: Outcome | None, published: Sequence[Mapping[str, Published]], tries: int
) -> Change:
    if outcome is None:
        return _against_published(plan, [each[plan.id] for each in published if plan.id in each], len(published))
    if outcome.sources != sources_digest(plan):
        return Change(plan.id, Need.RUN, "its photos or other sources changed")
    if why := _difference(outcome.stages, asked_for(plan)):
        return Change(plan.id, Need.RUN, why)
    if outcome.phase in _RESULTS:
        return Change(plan.id, Need.KEEP, f"unchanged since it was {outcome.phase}")
    if outcome.tries >= tries:
        return Change(plan.id, Need.PARKED, f"{outcome.phase} {outcome.tries} times without a change")
    return Change(plan.id, Need.RUN, f"it was {outcome.phase} last time")


def _difference(before: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> str:
    """What is asked for differently, the first stage first; empty for nothing."""
    for stage in [*now, *(each for each in before if each not in now)]:
        old, new = before.get(stage), now.get(stage)
        if old == new:
            continue
        if stage in ("seed", "fallbacks") or old is None or new is None:
            return f"{stage}: changed"
        if old[0] != new[0]:
            return f"{stage}: method {new[0]} instead of {old[0]}"
        if old[1] != new[1]:
            return f"{stage}: {new[0]} is version {new[1]}, it was {old[1]}"
        return f"{stage}: options changed"
    return ""


def _against_published(plan: AssetPlan, found: Sequence[Published], targets: int) -> Change:
    """Without an outcome (a new machine, a lost database) the manifests alone tell.

    The key of the first stage covers the photos. Options that a stage lowered to fit its machine look like a change
    here: such an asset is run again, and its commits are found.
    """
    if not found:
        return Change(plan.id, Need.RUN, "it is new")
    if len(found) < targets:
        return Change(plan.id, Need.RUN, "a target does not have it yet")
    first = plan.request(Stage.INGEST, {}).key
    for each in found:
        if each.stages.get("ingest", ("", "", "", ""))[2] != first:
            return Change(plan.id, Need.RUN, "its photos, or how they are taken in, changed")
        before = {
            stage: [method, version, options]
            for stage, (method, version, _, options) in each.stages.items()
            if stage != "publish"
        }
        # any of the choices of methods may be what was published: those before it were rejected
        differences = [_difference(before, _published_stages(one)) for one in plan.alternatives]
        if all(differences):
            return Change(plan.id, Need.RUN, differences[0])
    return Change(plan.id, Need.KEEP, "published as asked for")


def _published_stages(plan: AssetPlan) -> dict[str, list[str]]:
    """What a manifest would say of a plan: publishing itself is no part of it."""
    return {stage: each for stage, each in asked_for(plan).items() if stage not in ("seed", "publish", "fallbacks")}
