"""From a specification's assets, measured or estimated, to a programme of many like them: time, GPU hours, cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from flows.forecast.estimate import AssetForecast
from flows.forecast.scheduling import in_flight
from flows.forecast.simulation import Losses, Outcome, Simulation, Site, StageCost
from flows.plan.committed import AssetPlan
from flows.runner.ray_cluster import gpu_share
from models.stage import Stage

MOST_SIMULATED = 5_000
"""Assets that are simulated one by one; larger programmes are as many times longer."""
_FEW = 10
_SPREAD = 0.35
"""Standard deviation of the logarithm of an asset's size, where a specification is too small to show one."""
Draw = Callable[[int], dict[Stage, float]]


@dataclass(frozen=True)
class Row:
    """A programme on one site."""

    gpus: int
    cores: float
    at_once: int
    seconds: float
    gpu_hours: float
    """Of machines that are held, busy or not; 0 on a site without."""
    fill: float
    cost: float
    quarantined: int
    lost_machines: int


def stage_seconds(forecasts: Sequence[AssetForecast]) -> list[dict[Stage, float]]:
    """What each stage of each asset took, or is expected to take. Assets that were rejected on the way end there."""
    return [
        each.spent | {stage: cost.seconds[1] for stage, cost in each.stages.items() if cost.runs} for each in forecasts
    ]


def draw_like(measured: Sequence[Mapping[Stage, float]], seed: int = 0) -> Draw:
    """Assets like the measured ones: one of them each time, larger or smaller where there are only few."""
    spread = _SPREAD if len(measured) < _FEW else 0.0

    def draw(asset: int) -> dict[Stage, float]:
        chance = random.Random(seed * 1_000_003 + asset)
        size = chance.lognormvariate(0.0, spread) if spread else 1.0
        return {stage: seconds * size for stage, seconds in chance.choice(measured).items()}

    return draw


def stage_costs(plan: AssetPlan, gpu_gb: float) -> dict[Stage, StageCost]:
    """What the stages reserve on GPUs of that size; nothing of them where there are none."""
    resources = {stage: each.resources for stage, each in plan.stages.items()}
    return {
        stage: StageCost(each.cpus, gpu_share(each.gpu_memory_gb, gpu_gb) if gpu_gb else 0.0)
        for stage, each in resources.items()
    }


def estimate_programme(
    assets: int, draw: Draw, costs: dict[Stage, StageCost], site: Site, losses: Losses, gpu_price: float
) -> Row:
    """Simulate a programme.

    Args:
        site: `at_once` 0 chooses as the flows do.
        gpu_price: of one GPU for one hour, held from the first stage to the last.

    Raises ValueError when a stage fits nowhere.
    """
    simulated = min(assets, MOST_SIMULATED)
    if not site.at_once:
        site = replace(site, at_once=_at_once(draw, costs, site))
    found: Outcome = Simulation(simulated, draw, costs, site, losses).run()
    times = assets / simulated
    gpu_hours = site.gpus * found.seconds * times / 3600
    return Row(
        gpus=site.gpus,
        cores=site.cpus,
        at_once=site.at_once,
        seconds=found.seconds * times,
        gpu_hours=gpu_hours,
        fill=found.gpu_fill(site.gpus),
        cost=gpu_hours * gpu_price,
        quarantined=round(found.quarantined * times),
        lost_machines=round(found.lost_machines * times),
    )


def _at_once(draw: Draw, costs: dict[Stage, StageCost], site: Site) -> int:
    sample = [draw(asset) for asset in range(200)]
    on_gpu = sum(each.get(stage, 0.0) for each in sample for stage in costs if costs[stage].gpu_share)
    gpu_s = sum(each.get(stage, 0.0) * costs[stage].gpu_share for each in sample for stage in costs)
    total = sum(sum(each.values()) for each in sample)
    share, gpu_part = (gpu_s / on_gpu, on_gpu / total) if on_gpu else (0.0, 1.0)
    return in_flight(site.gpus, site.cpus, share, gpu_part, max(cost.cpus for cost in costs.values()))
