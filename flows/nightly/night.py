"""What a night has before it, and how it ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flows.batch import BatchOutcome
from flows.nightly.changes import Change, Need
from flows.plan.captures import Capture
from flows.plan.committed import AssetPlan, BatchPlan
from models.status import AssetStatus, Phase, StageState


@dataclass(frozen=True)
class Agenda:
    """What a night has before it."""

    plan: BatchPlan
    """Every asset of the specification."""
    changes: tuple[Change, ...]
    """One an asset of the plan, in its order."""
    waiting: tuple[Capture, ...]
    """Captures that are not complete yet."""

    @property
    def todo(self) -> tuple[AssetPlan, ...]:
        """The assets to run."""
        wanted = {change.asset for change in self.changes if change.need is Need.RUN}
        return tuple(asset for asset in self.plan.assets if asset.id in wanted)


@dataclass(frozen=True)
class Night:
    """How a night ended."""

    agenda: Agenda
    outcome: BatchOutcome | None
    """None when nothing had changed."""
    started_at: float
    ended_at: float
    min_success_ratio: float
    summary: str = ""
    """Where `summary.json` of this night lies."""
    errors: tuple[str, ...] = field(default=())
    """What went wrong beside the assets: a catalogue or a target that did not answer."""

    @property
    def counts(self) -> dict[str, int]:
        """Assets by how they ended, those that nothing had to be done for included."""
        kept = Counter(change.need.value for change in self.agenda.changes if change.need is not Need.RUN)
        ran = {} if self.outcome is None else {phase.value: n for phase, n in self.outcome.counts.items()}
        return {**ran, **kept, **({"waiting": len(self.agenda.waiting)} if self.agenda.waiting else {})}

    @property
    def left_over(self) -> int:
        """Assets that were to be run and were not started: stopped, or the budget was used up."""
        return 0 if self.outcome is None else sum(map(untouched, self.outcome.statuses.values()))

    @property
    def success_ratio(self) -> float:
        """Of the assets that were worked on, the share that ended with a result. A rejection is one."""
        statuses = [] if self.outcome is None else list(self.outcome.statuses.values())
        worked = [each for each in statuses if not untouched(each)]
        return sum(each.phase in (Phase.DONE, Phase.REJECTED) for each in worked) / len(worked) if worked else 1.0

    @property
    def ok(self) -> bool:
        """Whether enough assets ended with a result, and nobody stopped the night."""
        stopped = self.outcome is not None and self.outcome.cancelled
        return self.success_ratio >= self.min_success_ratio and not stopped

    @property
    def headline(self) -> str:
        """One line for people."""
        counts = ", ".join(f"{count} {word}" for word, count in self.counts.items())
        state = "ended" if self.ok else "FAILED"
        return f"{self.agenda.plan.name}: night {state}: {counts or 'nothing to do'}"


def untouched(status: AssetStatus) -> bool:
    """Whether nothing was done for an asset that is left."""
    started = any(stage.state not in (StageState.PENDING, StageState.SKIPPED) for stage in status.stages.values())
    return status.phase in (Phase.PENDING, Phase.CANCELLED) and not started
