"""How long a programme of N assets takes on G GPUs: a discrete-event simulation of the flows' own policy.

Simulated: assets in flight in a window, each stage waiting for cores and a share of one GPU, first come first served
as far as it fits (as Ray places them), machines that are lost and the work since the last checkpoint with them, assets
that are quarantined. Not simulated: the network, the store's throughput, nodes whose own cores run out.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from models.stage import Stage

_UNITS = 100
"""Shares of a GPU are counted in hundredths, as the runner reserves them."""


@dataclass(frozen=True)
class StageCost:
    """What one stage takes."""

    cpus: float
    gpu_share: float
    """Of one GPU; 0 for none."""


@dataclass(frozen=True)
class Site:
    """Where the work runs."""

    gpus: int
    cpus: float
    at_once: int
    """Assets in flight."""
    overhead_s: float = 0.02
    """Of each stage, beside its own seconds: orchestration and the start of its process."""


@dataclass(frozen=True)
class Losses:
    """What goes wrong."""

    gpu_mtbf_h: float = math.inf
    """Mean hours between two losses of the machine that a GPU stage runs on."""
    repair_s: float = 120.0
    """Until a lost machine's place is there again."""
    checkpoint_s: float = 60.0
    """Work since the last checkpoint is done again: at most so much."""
    quarantined: float = 0.0
    """Share of the assets that a stage gives up on, anywhere along the line."""


@dataclass
class Outcome:
    """How it went."""

    seconds: float = 0.0
    """Wall seconds from the first stage to the last."""
    gpu_s: float = 0.0
    """GPU seconds of work that was needed."""
    wasted_gpu_s: float = 0.0
    """GPU seconds that were done again or waited for repair."""
    longest_s: float = 0.0
    """The longest chain of stages of one asset."""
    finished: int = 0
    quarantined: int = 0
    lost_machines: int = 0

    def ideal_s(self, gpus: int) -> float:
        """No schedule is shorter."""
        return max(self.gpu_s / gpus if gpus else 0.0, self.longest_s)

    def gpu_fill(self, gpus: int) -> float:
        """The ideal makespan over the real one."""
        return self.ideal_s(gpus) / self.seconds if self.seconds else 1.0


@dataclass
class _Gpus:
    """GPUs that are alike, each with what of it is free; the fullest that fits is taken."""

    free: list[int]
    by_free: dict[int, set[int]] = field(default_factory=dict)

    @staticmethod
    def of(count: int) -> _Gpus:
        return _Gpus([_UNITS] * count, {_UNITS: set(range(count))})

    def take(self, units: int) -> int | None:
        found = min((free for free, gpus in self.by_free.items() if gpus and free >= units), default=None)
        if found is None:
            return None
        gpu = next(iter(self.by_free[found]))
        self._move(gpu, -units)
        return gpu

    def give(self, gpu: int, units: int) -> None:
        self._move(gpu, units)

    def _move(self, gpu: int, units: int) -> None:
        before = self.free[gpu]
        self.by_free[before].discard(gpu)
        self.free[gpu] = before + units
        self.by_free.setdefault(before + units, set()).add(gpu)


@dataclass
class _Work:
    """One stage of one asset."""

    asset: int
    position: int
    left_s: float
    fails: bool
    arrived: int = 0
    gpu: int | None = None


class Simulation:
    """One programme. Deterministic for its seed."""

    def __init__(
        self,
        assets: int,
        seconds_of: Callable[[int], dict[Stage, float]],
        costs: dict[Stage, StageCost],
        site: Site,
        losses: Losses = Losses(),
        seed: int = 0,
    ) -> None:
        """
        Args:
            seconds_of: what each stage of the asset of that number takes, without waiting.
            costs: of the stages in order.
        """
        self._assets, self._seconds_of = assets, seconds_of
        self._stages = tuple(costs)
        self._costs = list(costs.values())
        self._units = [round(_UNITS * cost.gpu_share) for cost in self._costs]
        self._site, self._losses = site, losses
        self._draw = random.Random(seed)
        self._gpus, self._free_cpus = _Gpus.of(site.gpus), site.cpus
        self._waiting: list[deque[_Work]] = [deque() for _ in self._stages]
        self._events: list[tuple[float, int, _Work, float]] = []
        """When, tie-breaker, what, and the work that is then still left (0: the stage is done)."""
        self._seconds: dict[int, list[float]] = {}
        self._next, self._count, self._now = 0, 0, 0.0
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Simulate to the end. Raises ValueError when a stage needs more than the site has."""
        for cost, stage in zip(self._costs, self._stages, strict=True):
            if cost.cpus > self._site.cpus or (cost.gpu_share and not self._site.gpus):
                raise ValueError(f"stage {stage} needs {cost.cpus:g} cores and {cost.gpu_share:g} GPUs, found less")
        for _ in range(min(self._site.at_once, self._assets)):
            self._admit()
        self._place()
        while self._events:
            self._now, _, work, left = heapq.heappop(self._events)
            self._end(work, left)
            self._place()
        self._outcome.seconds = self._now
        return self._outcome

    def _admit(self) -> None:
        if self._next >= self._assets:
            return
        asset, self._next = self._next, self._next + 1
        found = self._seconds_of(asset)
        seconds = [found.get(stage, 0.0) for stage in self._stages]
        self._seconds[asset] = seconds
        self._outcome.longest_s = max(self._outcome.longest_s, sum(seconds))
        self._queue(asset, 0)

    def _queue(self, asset: int, position: int) -> None:
        share = self._losses.quarantined / len(self._stages)
        fails = share > 0 and self._draw.random() < share
        seconds = self._seconds[asset][position] + self._site.overhead_s
        self._outcome.gpu_s += self._seconds[asset][position] * self._costs[position].gpu_share
        self._wait(_Work(asset, position, seconds, fails))

    def _wait(self, work: _Work) -> None:
        self._count += 1
        work.arrived = self._count
        self._waiting[work.position].append(work)

    def _place(self) -> None:
        """Start what fits, in the order of arrival; what does not fit lets others pass."""
        blocked = [not queue for queue in self._waiting]
        while not all(blocked):
            ready = [position for position, no in enumerate(blocked) if not no]
            position = min(ready, key=lambda each: self._waiting[each][0].arrived)
            if self._start(self._waiting[position][0]):
                self._waiting[position].popleft()
                blocked[position] = not self._waiting[position]
            else:
                blocked[position] = True

    def _start(self, work: _Work) -> bool:
        cost, units = self._costs[work.position], self._units[work.position]
        if cost.cpus > self._free_cpus + 1e-9:
            return False
        if units:
            work.gpu = self._gpus.take(units)
            if work.gpu is None:
                return False
        self._free_cpus -= cost.cpus
        lost_after = math.inf
        if units and math.isfinite(self._losses.gpu_mtbf_h):
            lost_after = self._draw.expovariate(1 / (3600 * self._losses.gpu_mtbf_h))
        self._count += 1
        if lost_after < work.left_s:
            again = min(lost_after, self._draw.uniform(0.0, self._losses.checkpoint_s))
            self._outcome.lost_machines += 1
            self._outcome.wasted_gpu_s += cost.gpu_share * (again + self._losses.repair_s)
            end, left = self._now + lost_after + self._losses.repair_s, work.left_s - lost_after + again
        else:
            end, left = self._now + work.left_s, 0.0
        heapq.heappush(self._events, (end, self._count, work, left))
        return True

    def _end(self, work: _Work, left: float) -> None:
        self._free_cpus += self._costs[work.position].cpus
        if work.gpu is not None:
            self._gpus.give(work.gpu, self._units[work.position])
            work.gpu = None
        if left > 0:
            work.left_s = left
            self._wait(work)
        elif work.fails or work.position + 1 == len(self._stages):
            del self._seconds[work.asset]
            self._outcome.quarantined += work.fails
            self._outcome.finished += not work.fails
            self._admit()
        else:
            self._queue(work.asset, work.position + 1)
