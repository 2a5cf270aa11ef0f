"""What the catalogue notes of assets and nights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from flows.batch import BatchOutcome
from flows.forecast.history import note_times
from flows.nightly.changes import asked_for, sources_digest
from flows.nightly.night import Night, untouched
from flows.plan.committed import AssetPlan, BatchPlan
from flows.status.account import stage_done
from infra.catalogue import Catalogue, Outcome
from infra.storage import open_store
from models.errors import DigitizeError
from models.stage import Stage
from models.status import AssetStatus, Phase, StageState

_log = logging.getLogger("digitize.nightly")


def recorded(catalogue: Catalogue, plan: BatchPlan, outcome: BatchOutcome) -> list[str]:
    """Note in the catalogue how the assets ended and what their stages took. Returns what could not be noted."""
    errors: list[str] = []
    guarded(lambda: record(catalogue, plan, list(outcome.statuses.values()), outcome.run), errors, "the catalogue")
    publishing = [asset.stages[Stage.PUBLISH] for asset in plan.assets[:1] if Stage.PUBLISH in asset.stages]
    for target in publishing[0].options.get("targets", ()) if publishing else ():
        guarded(lambda to=target["to"]: catalogue.sync(open_store(to)), errors, target["to"])  # type: ignore[misc]
    return errors


def guarded(action: Callable[[], object], errors: list[str], what: str) -> None:
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
        if asset is None or untouched(status):
            continue
        found.append(_outcome(asset, status, before))
        new = [stage for stage, each in status.stages.items() if each.state is StageState.COMMITTED]
        read = (stage_done(store, status, stage) for stage in dict.fromkeys([Stage.INGEST, *new]) if new)
        note_times(catalogue, store, [done for done in read if done is not None])
    catalogue.record_outcomes(store.uri, plan.name, found, run)


def _outcome(asset: AssetPlan, status: AssetStatus, before: Mapping[str, Outcome]) -> Outcome:
    sources, stages = sources_digest(asset), asked_for(asset)
    last = before.get(asset.id)
    same = last is not None and (last.sources, last.stages) == (sources, stages)
    failed = status.phase is Phase.QUARANTINED
    tries = (last.tries if same and last is not None else 0) + failed
    verdict = None if status.verdict is None else status.verdict.value
    return Outcome(asset.id, sources, stages, status.phase.value, verdict, tries, time.time())


def record_night(catalogue: Catalogue, night: Night) -> None:
    """Note how a night ended."""
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
