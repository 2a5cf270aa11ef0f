"""Which asset comes next, how many are in flight, when the GPU hours of a night are spent. Knows no Prefect, no Ray."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flows.plan.committed import AssetPlan
from flows.runner.base import Machines
from infra.settings import RunSettings
from models.stage import Stage

MOST_AT_ONCE = 2048
"""Assets in flight at most: each is a thread of the driver."""
_LEAST_WITH_RAY = 4
_SPARE = 2
"""Assets beyond those that fill the machines: they wait at the door, so that no core waits for a commit."""
_QUEUED = 3.0
"""Assets in flight for each that the GPUs have room for. Simulated with the real line's times
(`flows.forecast.simulation`), twice as many as fit leave 8 % of the GPUs' time unused, because pieces of GPUs wait for
a stage that fits them; three times as many leave 5 %."""
_POLL_S = 0.5


@dataclass(frozen=True)
class GpuNeeds:
    """What an asset is expected to take of the GPUs."""

    gpu_s: float = 0.0
    """GPU seconds: those of its stages by the share of a GPU that each occupies."""
    share: float = 0.0
    """The mean share of one GPU that it occupies while it occupies any."""
    gpu_part: float = 1.0
    """Of the time the asset takes, the part in stages that occupy a GPU."""


def gpu_needs(plan: AssetPlan, machines: Machines, seconds: Mapping[Stage, float]) -> GpuNeeds:
    """The needs of an asset, from the expected seconds of those of its stages that have still to run."""
    shares = {stage: machines.gpu_share(each.resources) for stage, each in plan.stages.items()}
    on_gpu = sum(seconds.get(stage, 0.0) for stage, share in shares.items() if share)
    total = sum(seconds.values())
    gpu_s = sum(seconds.get(stage, 0.0) * share for stage, share in shares.items())
    return GpuNeeds(
        gpu_s=gpu_s,
        share=gpu_s / on_gpu if on_gpu > 0 else max(shares.values()),
        gpu_part=on_gpu / total if total > 0 else 1.0,
    )


def assets_at_once(settings: RunSettings, machines: Machines, needs: Sequence[GpuNeeds], cpus_a_stage: float) -> int:
    """How many assets to have in flight: as the settings say, else enough for every GPU (or core) to have work.

    While an asset's photos are read and its cameras solved, another one's field is trained: with stages of which a part
    `p` of the time needs a GPU, `slots / p` assets fill `slots` places on GPUs, and more of them leave fewer gaps.
    """
    if settings.assets_at_once:
        return settings.assets_at_once
    if settings.runner == "inline":
        return 1
    share = sum(each.share for each in needs) / len(needs) if needs else 0.0
    gpu_part = sum(each.gpu_part for each in needs) / len(needs) if needs else 1.0
    return in_flight(machines.gpus(), machines.cpus(), share, gpu_part, cpus_a_stage)


def in_flight(gpus: float, cpus: float, share: float, gpu_part: float, cpus_a_stage: float) -> int:
    """Assets in flight that keep GPUs full, or cores where nothing needs a GPU.

    Args:
        share: mean share of a GPU that an asset occupies while it occupies any.
        gpu_part: part of an asset's time in which it does.
        cpus_a_stage: cores that the largest stage reserves.
    """
    if share > 0 and gpus > 0:
        wanted = _QUEUED * gpus / share / max(gpu_part, 0.1)
    else:
        wanted = cpus / max(cpus_a_stage, 0.1) + _SPARE
    return max(_LEAST_WITH_RAY, min(MOST_AT_ONCE, math.ceil(wanted)))


class Turns:
    """Hands out assets while the GPU budget lasts: the highest priority first, then the longest, so that no long one is
    left to the end, when the other GPUs have nothing to do. Safe to use from threads.

    An asset is started when what is spent, what those in flight are still expected to take and what it is expected to
    take itself stay within the budget; a started asset is never stopped for it. So the budget is kept as well as the
    expectations are right, and what is left over is left whole for the next run.
    """

    def __init__(
        self, plans: Sequence[AssetPlan], expected_gpu_s: Mapping[str, float], gpu_hours: float | None
    ) -> None:
        self._expected = dict(expected_gpu_s)
        ordered = sorted(plans, key=lambda plan: (-plan.priority, -self._expected.get(plan.id, 0.0)))
        self._waiting = [plan.id for plan in ordered]
        self._budget_s = math.inf if gpu_hours is None else 3600.0 * gpu_hours
        self._in_flight: dict[str, float] = {}
        """GPU seconds spent so far by each asset in flight."""
        self._spent_s = 0.0
        self._changed = threading.Condition()

    @property
    def order(self) -> tuple[str, ...]:
        """The assets that have not been handed out, in the order of their turns."""
        with self._changed:
            return tuple(self._waiting)

    @property
    def spent_gpu_s(self) -> float:
        """GPU seconds spent so far."""
        with self._changed:
            return self._spent_s

    def next(self, cancelled: Callable[[], bool]) -> str | None:
        """The next asset; None when there is none, the rest does not fit into the budget, or the run is cancelled.

        Waits while an asset in flight may yet leave room for one more.
        """
        with self._changed:
            while not cancelled():
                found = next((asset for asset in self._waiting if self._fits(asset)), None)
                if found is not None:
                    self._waiting.remove(found)
                    self._in_flight[found] = 0.0
                    return found
                if not self._waiting or not self._in_flight:
                    return None
                self._changed.wait(_POLL_S)
        return None

    def charge(self, asset: str, gpu_s: float) -> None:
        """Note what a stage of an asset in flight has taken."""
        with self._changed:
            self._spent_s += gpu_s
            self._in_flight[asset] = self._in_flight.get(asset, 0.0) + gpu_s

    def finished(self, asset: str) -> None:
        """Note that an asset has ended, however it did."""
        with self._changed:
            self._in_flight.pop(asset, None)
            self._changed.notify_all()

    def _fits(self, asset: str) -> bool:
        if self._spent_s >= self._budget_s:
            return False
        if self._spent_s == 0 and not self._in_flight:
            return True  # else an asset larger than the budget would never have a turn
        to_come = sum(max(0.0, self._expected.get(each, 0.0) - spent) for each, spent in self._in_flight.items())
        return self._spent_s + to_come + self._expected.get(asset, 0.0) <= self._budget_s
