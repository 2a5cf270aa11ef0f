"""A night: find what changed, digitize just that, and say how it ended. Knows no Prefect.

The stores hold the truth; the catalogue only makes it quick to ask. A catalogue that is lost, or that another machine
has, costs lookups: what is committed is recognised by `run_batch` all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flows.batch import BatchOutcome, run_batch
from flows.batch_plan import plan_batch
from flows.captures import Capture, gather
from flows.changes import Change, Need, asked_for, find_changes, sources_digest
from flows.estimate import comparable
from flows.night_summary import write_summary
from flows.overview import stage_done
from flows.plan import AssetPlan, BatchPlan
from flows.progress import Board
from flows.sources import source_ref
from infra.catalogue import Catalogue, Outcome
from infra.settings import NightSettings, RunSettings
from infra.storage import open_store
from models.errors import DigitizeError
from models.spec_yaml import load_spec
from models.stage import Stage
from models.status import AssetStatus, Phase, StageState
from tasks import registry

_log = logging.getLogger("digitize.nightly")

RunBatch = Callable[..., BatchOutcome]


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
        return 0 if self.outcome is None else sum(map(_untouched, self.outcome.statuses.values()))

    @property
    def success_ratio(self) -> float:
        """Of the assets that were worked on, the share that ended with a result. A rejection is one."""
        statuses = [] if self.outcome is None else list(self.outcome.statuses.values())
        worked = [each for each in statuses if not _untouched(each)]
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


def _untouched(status: AssetStatus) -> bool:
    started = any(stage.state not in (StageState.PENDING, StageState.SKIPPED) for stage in status.stages.values())
    return status.phase in (Phase.PENDING, Phase.CANCELLED) and not started


def make_agenda(spec: Path, catalogue: Catalogue, settings: NightSettings) -> Agenda:
    """Read the specification, its places and its targets, and compare.

    Raises DigitizeError when the specification is wrong or a place or target cannot be reached: without them nobody
    knows what changed.
    """
    gathered = gather(load_spec(spec))
    refer = catalogue.remember_sources(source_ref)
    plan = plan_batch(gathered.spec_file, refer=refer)
    published = []
    for target in gathered.spec_file.spec.publish:
        store = open_store(gathered.spec_file.resolve(target.to))
        catalogue.sync(store)
        published.append(catalogue.published(store.uri))
    outcomes = catalogue.outcomes(open_store(plan.store_uri).uri, plan.name)
    return Agenda(plan, tuple(find_changes(plan, outcomes, published, settings.tries)), gathered.waiting)


def run_night(
    spec: Path,
    settings: NightSettings,
    run_settings: RunSettings,
    *,
    catalogue: Catalogue | None = None,
    board: Board | None = None,
    cancel: threading.Event | None = None,
    run: RunBatch = run_batch,
) -> Night:
    """Run what changed. One asset's failure never fails the night; `Night.ok` says whether too many did.

    Raises DigitizeError when the night as a whole could not begin, or its store or cluster cannot be reached.
    """
    started = time.time()
    catalogue = catalogue or Catalogue()
    agenda = make_agenda(spec, catalogue, settings)
    plan = replace(agenda.plan, assets=agenda.todo)
    outcome, errors = None, []
    if plan.assets or plan.unusable:
        outcome = run(plan, run_settings, board=board, cancel=cancel)
        errors += recorded(catalogue, plan, outcome)
    night = Night(agenda, outcome, started, time.time(), settings.min_success_ratio, errors=tuple(errors))
    night = replace(night, summary=write_summary(night))
    _guarded(lambda: _record_night(catalogue, night), errors, "the catalogue")
    return replace(night, errors=tuple(errors))


def recorded(catalogue: Catalogue, plan: BatchPlan, outcome: BatchOutcome) -> list[str]:
    """Note in the catalogue how the assets ended and what their stages took. Returns what could not be noted."""
    errors: list[str] = []
    _guarded(lambda: record(catalogue, plan, list(outcome.statuses.values()), outcome.run), errors, "the catalogue")
    options = [asset.stages[Stage.PUBLISH].options.get("targets", ()) for asset in plan.assets[:1]]
    for target in options[0] if options else ():
        _guarded(lambda to=target["to"]: catalogue.sync(open_store(to)), errors, target["to"])  # type: ignore[misc]
    return errors


def _guarded(action: Callable[[], object], errors: list[str], what: str) -> None:
    """The work is done and committed by now: what only keeps books must not turn it into a failure."""
    try:
        action()
    except DigitizeError as error:
        _log.warning("%s: %s", what, error)
        errors.append(f"{what}: {error.message}")


def record(catalogue: Catalogue, plan: BatchPlan, statuses: Sequence[AssetStatus], run: str | None) -> None:
    """Note how assets ended, and the times of the stages that were committed."""
    store = open_store(plan.store_uri)
    before = catalogue.outcomes(store.uri, plan.name)
    plans = {asset.id: asset for asset in plan.assets}
    found = []
    for status in statuses:
        asset = plans.get(status.asset)
        if asset is None or _untouched(status):
            continue
        found.append(_outcome(asset, status, before))
        dones = [
            done
            for stage in registry.stages()
            if (each := status.stages.get(stage)) is not None
            and each.state is StageState.COMMITTED
            and (done := stage_done(store, status, stage)) is not None
        ]
        photos = next((n for done in dones if done.stage is Stage.INGEST and (n := _photos(done.files))), None)
        catalogue.record_times(store.uri, dones, photos, comparable)
    catalogue.record_outcomes(store.uri, plan.name, found, run)


def _photos(files: Sequence[object]) -> int:
    return sum(getattr(file, "path", "").startswith("images/") for file in files)


def _outcome(asset: AssetPlan, status: AssetStatus, before: Mapping[str, Outcome]) -> Outcome:
    sources, stages = sources_digest(asset), asked_for(asset)
    last = before.get(asset.id)
    same = last is not None and (last.sources, last.stages) == (sources, stages)
    failed = status.phase is Phase.QUARANTINED
    tries = (last.tries if same and last is not None else 0) + failed
    verdict = None if status.verdict is None else status.verdict.value
    return Outcome(asset.id, sources, stages, status.phase.value, verdict, tries, time.time())


def _record_night(catalogue: Catalogue, night: Night) -> None:
    catalogue.record_night(
        store=night.agenda.plan.store_uri,
        batch=night.agenda.plan.name,
        started_at=night.started_at,
        ended_at=night.ended_at,
        run=None if night.outcome is None else night.outcome.run,
        counts=night.counts,
        success_ratio=night.success_ratio,
        left_over=night.left_over,
        ok=int(night.ok),
    )
