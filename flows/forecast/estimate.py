"""What a run would do and cost: which stages are committed, and how long the others take.

Times come from the method's own estimate, corrected by what the same method with the same options really took for
other assets. Whatever tells a time (`plan`, the live display, the Prefect UI, the choice of how many assets are in
flight) asks here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import quantiles

from flows.forecast.asset_size import asset_size
from flows.forecast.history import History
from flows.plan.committed import AssetPlan, BatchPlan, StagePlan
from flows.plan.walk import Walk
from models.results import RejectedChain
from models.stage import Stage
from tasks import registry

Range = tuple[float, float, float]
"""Low, expected, high: where enough is known, a tenth, half and nine tenths of the cases lie below."""

_OWN_GUESS = (0.5, 1.0, 2.0)
_FEW = (0.7, 1.0, 1.5)


class StageOutlook(StrEnum):
    """What a run would do with a stage."""

    CACHED = "cached"
    WILL_RUN = "will_run"
    WAITS = "waits"
    """Runs after a stage that has to run first; it may turn out to be cached."""
    NOT_REACHED = "not_reached"
    """A committed stage rejected the asset."""
    SKIPPED = "skipped"
    """No stage needs it."""


@dataclass(frozen=True)
class Forecast:
    """One stage of one asset."""

    outlook: StageOutlook
    method: str
    seconds: Range = (0.0, 0.0, 0.0)
    """Zeros when it does not run."""
    memory_gb: float = 0.0
    scratch_gb: float = 0.0
    samples: int = 0
    """Commits of other assets that the times rest on; 0 for the method's own estimate alone."""

    @property
    def runs(self) -> bool:
        """Whether work is to be expected."""
        return self.outlook in (StageOutlook.WILL_RUN, StageOutlook.WAITS)


@dataclass(frozen=True)
class AssetForecast:
    """One asset: what each stage will do, and what is committed already."""

    id: str
    photos: int
    stages: dict[Stage, Forecast]
    """Of all stages in order, skipped ones too."""
    spent: dict[Stage, float]
    """Seconds that the committed stages took."""
    choices: dict[Stage, tuple[str, ...]] = field(default_factory=dict)
    """The methods of stages that have several, in the order in which they are tried."""
    tried: tuple[RejectedChain, ...] = ()
    """The choices of methods whose results were rejected."""

    @property
    def runs(self) -> bool:
        """Whether any stage does."""
        return any(each.runs for each in self.stages.values())


def forecast(plan: BatchPlan, walks: Mapping[str, Walk], history: History) -> list[AssetForecast]:
    """What a run of this plan would do.

    Args:
        walks: how far each asset has got, by asset.
    """
    return [_of_asset(asset, walks[asset.id], history) for asset in plan.assets]


def _of_asset(asset: AssetPlan, found: Walk, history: History) -> AssetForecast:
    photos, megapixels = asset_size(asset, found.done)
    stages: dict[Stage, Forecast] = {}
    first = True
    for stage in registry.stages():
        plan = found.plan.stages.get(stage)
        if plan is None:
            stages[stage] = Forecast(StageOutlook.SKIPPED, "")
        elif stage in found.done:
            stages[stage] = Forecast(StageOutlook.CACHED, plan.method)
        elif found.request is None:
            stages[stage] = Forecast(StageOutlook.NOT_REACHED, plan.method)
        else:
            outlook = StageOutlook.WILL_RUN if first else StageOutlook.WAITS
            stages[stage] = _cost(plan, outlook, asset.id, photos, megapixels, history)
            first = False
    spent = {stage: done.seconds for stage, done in found.done.items()}
    return AssetForecast(asset.id, photos, stages, spent, asset.choices, found.tried)


def _cost(
    plan: StagePlan, outlook: StageOutlook, asset: str, photos: int, megapixels: float, history: History
) -> Forecast:
    own = plan.estimate(photos, megapixels)
    past = [each for each in history.of_stage(plan) if (each.store, each.asset) != (history.store, asset)]
    guessed = {count: plan.estimate(count, megapixels).seconds for count in {each.photos for each in past}}
    low, middle, high = spread([each.seconds / max(guessed[each.photos], 0.1) for each in past])
    return Forecast(
        outlook=outlook,
        method=plan.method,
        seconds=(own.seconds * low, own.seconds * middle, own.seconds * high),
        memory_gb=max((each.peak_memory_gb for each in past), default=own.memory_gb),
        scratch_gb=plan.resources.scratch_gb,
        samples=len(past),
    )


def spread(ratios: Sequence[float]) -> Range:
    """Low, middle and high of observed ratios; wide guesses for few or none.

    >>> spread([]), spread([2.0])
    ((0.5, 1.0, 2.0), (1.4, 2.0, 3.0))
    """
    if not ratios:
        return _OWN_GUESS
    if len(ratios) < 3:
        middle = sum(ratios) / len(ratios)
        return _FEW[0] * middle, middle, _FEW[2] * middle
    cuts = quantiles(ratios, n=10, method="inclusive")
    return cuts[0], cuts[4], cuts[8]
