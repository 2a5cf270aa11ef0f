"""What a run of a batch would do: for each asset the stages with their methods, options and inputs.

Light on purpose: no Prefect, no Ray, no torch, so that a finished batch is recognised in a moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from models.errors import DigitizeError
from models.ladder import Ladder
from models.quality import DEFAULT_GATES, Gate
from models.resources import Estimate, Resources
from models.results import ArtifactRef, Done, RejectedChain, StageRequest
from models.stage import Stage
from tasks import registry


@dataclass(frozen=True)
class StagePlan:
    """One stage of one asset, before its inputs are known."""

    stage: Stage
    method: str
    version: str
    options: dict[str, Any]
    resources: Resources
    ladder: Ladder = field(default_factory=Ladder)
    inputs: tuple[Stage, ...] = ()
    """The stages that it reads, in order."""
    external: tuple[str, ...] = ()
    """What it reads of what the user gave, where that was given."""
    filled_in: tuple[str, ...] = ()
    """Options that the flow fills in when the stages before are committed."""

    def estimate(self, photos: int, megapixels: float) -> Estimate:
        """Expected time and memory for that many photos of that size."""
        module = registry.method(self.stage, self.method)
        estimate: Estimate = module.estimate(module.Options.model_validate(self.options), photos, megapixels)
        return estimate


Chain = dict[Stage, StagePlan]
"""The stages that run for an asset, in order, each with one method."""


@dataclass(frozen=True)
class AssetPlan:
    """One asset, ready to run."""

    id: str
    batch: str
    seed: int
    stages: Chain
    """The stages that run, in order; of several choices of methods the first."""
    sources: dict[str, ArtifactRef]
    priority: int = 0
    skipped: tuple[Stage, ...] = ()
    """The stages that no stage needs."""
    fallbacks: tuple[Chain, ...] = ()
    """The other choices of methods, in the order in which they are tried while none is accepted."""
    gates: tuple[Gate, ...] = DEFAULT_GATES
    until: Stage | None = None
    """The last stage to run; None for the whole line."""

    def up_to(self, stage: Stage) -> AssetPlan:
        """The same as far as a stage. Choices of methods that differ later fall together."""
        last = registry.position(stage)
        chains: list[Chain] = []
        for chain in (self.stages, *self.fallbacks):
            begun = {each: plan for each, plan in chain.items() if registry.position(each) <= last}
            if begun not in chains:
                chains.append(begun)
        first, *others = chains
        skipped = skipped_stages(first, stage)
        return replace(self, stages=first, fallbacks=tuple(others), skipped=skipped, until=stage)

    @staticmethod
    def of_chains(
        asset: str,
        batch: str,
        seed: int,
        chains: Sequence[Chain],
        sources: dict[str, ArtifactRef],
        priority: int = 0,
        gates: tuple[Gate, ...] = DEFAULT_GATES,
    ) -> AssetPlan:
        """The plan of an asset with these choices of methods, in the order in which they are tried."""
        first, *others = chains
        return AssetPlan(asset, batch, seed, first, sources, priority, skipped_stages(first), tuple(others), gates)

    @property
    def alternatives(self) -> tuple[AssetPlan, ...]:
        """One plan for each choice of methods, in the order in which they are tried."""
        chains = (self.stages, *self.fallbacks)
        return tuple(
            replace(self, stages=chain, skipped=skipped_stages(chain, self.until), fallbacks=()) for chain in chains
        )

    @property
    def choices(self) -> dict[Stage, tuple[str, ...]]:
        """The methods of each stage that has several, in the order in which they are tried."""
        chains = (self.stages, *self.fallbacks)
        found = {
            stage: tuple(dict.fromkeys(chain[stage].method for chain in chains if stage in chain))
            for stage in registry.stages()
        }
        return {stage: names for stage, names in found.items() if len(names) > 1}

    def request(self, stage: Stage, done: Mapping[Stage, Done], rejected: Sequence[RejectedChain] = ()) -> StageRequest:
        """The request of a stage, once the stages that it reads are committed.

        Args:
            rejected: the choices of methods that were tried before this one.
        """
        plan = self.stages[stage]
        options = {**plan.options, **_filled_in(plan, done, rejected)}
        inputs = {str(name): done[name].ref for name in plan.inputs}
        inputs |= {name: self.sources[name] for name in plan.external if name in self.sources}
        return StageRequest(
            asset=self.id,
            stage=stage,
            method=plan.method,
            version=plan.version,
            options=options,
            inputs=inputs,
            seed=self.seed,
            resources=plan.resources,
        )


def skipped_stages(chain: Chain, until: Stage | None = None) -> tuple[Stage, ...]:
    """The stages that no stage of a chain needs, in order; those after `until` are only not asked for yet."""
    last = len(registry.stages()) if until is None else registry.position(until)
    return tuple(stage for stage in registry.stages() if stage not in chain and registry.position(stage) <= last)


def _filled_in(plan: StagePlan, done: Mapping[Stage, Done], rejected: Sequence[RejectedChain]) -> dict[str, Any]:
    """The options that tell of the way here. Those that have nothing to tell are left as they are."""
    found: dict[str, Any] = {}
    if "stepped_down" in plan.filled_in:
        lowered = {str(stage): each.stepped_down for stage, each in done.items() if each.stepped_down is not None}
        found["stepped_down"] = {stage: each.model_dump(mode="json") for stage, each in lowered.items()}
    if "rejected" in plan.filled_in:
        found["rejected"] = [each.model_dump(mode="json") for each in rejected]
    return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class BatchPlan:
    """A batch, ready to run. Assets whose sources are unusable are set aside with their error."""

    name: str
    store_uri: str
    assets: tuple[AssetPlan, ...]
    unusable: dict[str, DigitizeError]
