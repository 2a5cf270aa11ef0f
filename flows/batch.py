"""Many assets: recognise what is finished, run the rest, account for all.

This module and everything it imports at its top stay light: a batch whose every stage is committed is recognised
without Prefect, Ray or any library that computes.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from flows.plan import BatchPlan
from flows.progress import Board
from infra.settings import RunSettings
from models.status import AssetStatus, Phase


@dataclass(frozen=True)
class BatchOutcome:
    """How a batch ended."""

    batch: str
    statuses: dict[str, AssetStatus]
    """The final status of each asset, in the plan's order; assets whose sources are unusable come last."""
    all_committed: bool
    """Nothing had to run: every stage of every asset was committed before."""
    cancelled: bool
    seconds: float
    """Wall seconds."""
    run: str | None = None
    """Prefect's id of the flow run; None when nothing had to run."""

    @property
    def counts(self) -> dict[Phase, int]:
        """Assets in each phase."""
        return dict(Counter(status.phase for status in self.statuses.values()))


@dataclass
class RunOptions:
    """skeleton"""

    cancel: threading.Event = field(default_factory=threading.Event)


def run_batch(
    plan: BatchPlan,
    settings: RunSettings,
    *,
    board: Board | None = None,
    cancel: threading.Event | None = None,
) -> BatchOutcome:
    """Bring every asset of a plan as far as it gets. One asset's trouble never stops the others.

    Called from the main thread it handles SIGINT and SIGTERM: the work stops within seconds and the assets that were
    not finished are `cancelled`; the next run goes on from there.

    Args:
        board: follows every change while the batch runs; `board.subscribe` before the call for a live display.
        cancel: set it from another thread to cancel.

    Raises DigitizeError when the batch as a whole cannot run (store or Ray cluster unreachable).
    """
    raise NotImplementedError
