"""A night: find what changed, digitize just that, and say how it ended. Knows no Prefect.

The stores hold the truth; the catalogue only makes it quick to ask. A catalogue that is lost, or that another machine
has, costs lookups: what is committed is recognised by `run_batch` all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flows.batch import BatchOutcome, run_batch
from flows.nightly.changes import find_changes
from flows.nightly.ledger import guarded, record_night, recorded
from flows.nightly.night import Agenda, Night
from flows.nightly.summary import write_summary
from flows.plan.batch_plan import plan_batch
from flows.plan.captures import gather
from flows.plan.sources import remembering
from flows.status.board import Board
from infra.catalogue import Catalogue
from infra.settings import NightSettings, RunSettings
from infra.storage import open_store
from models.spec_yaml import load_spec

_log = logging.getLogger("digitize.nightly")

RunBatch = Callable[..., BatchOutcome]


def make_agenda(spec: Path, catalogue: Catalogue, settings: NightSettings) -> Agenda:
    """Read the specification, its places and its targets, and compare.

    Raises DigitizeError when the specification is wrong or a place or target cannot be reached: without them nobody
    knows what changed.
    """
    gathered = gather(load_spec(spec))
    plan = plan_batch(gathered.spec_file, refer=remembering(catalogue))
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
    guarded(lambda: record_night(catalogue, night), errors, "the catalogue")
    return replace(night, errors=tuple(errors))
