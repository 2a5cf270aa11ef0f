"""Where each asset of a batch stands: what `digitize status` and `explain` show.

File: `status/<batch>/<asset>.json` in the work store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from models.errors import DigitizeError, ReasonCode
from models.ladder import SteppedDown
from models.quality import GateOutcome, Verdict
from models.record import Record
from models.results import Reason, RejectedChain
from models.stage import Stage


class Phase(StrEnum):
    """The state of one asset."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    """All stages are committed; the verdict says how good the asset is."""
    REJECTED = "rejected"
    """A gate or check found the capture unfit; the reasons say why."""
    QUARANTINED = "quarantined"
    """A stage could not do its work; the error says why. The rest of the batch went on."""
    CANCELLED = "cancelled"


FINAL_PHASES = frozenset({Phase.DONE, Phase.REJECTED, Phase.QUARANTINED, Phase.CANCELLED})
"""An asset in one of them is not worked on any more."""


class StageState(StrEnum):
    """The state of one stage of one asset."""

    PENDING = "pending"
    RUNNING = "running"
    COMMITTED = "committed"
    CACHED = "cached"
    FAILED = "failed"
    SKIPPED = "skipped"


class Failure(Record):
    """A DigitizeError as data."""

    code: ReasonCode
    message: str
    hint: str
    retryable: bool = False
    stage: Stage | None = None
    path: str | None = None

    @staticmethod
    def of(error: DigitizeError, stage: Stage | None = None) -> Failure:
        """The failure that an error describes."""
        return Failure(
            code=error.code,
            message=error.message,
            hint=error.hint,
            retryable=error.retryable,
            stage=stage,
            path=error.path,
        )


class StageStatus(Record):
    """One stage of one asset."""

    state: StageState = StageState.PENDING
    key: str | None = None
    share: float = 0.0
    """Progress in [0, 1] while it runs."""
    message: str = ""
    seconds: float | None = None
    peak_memory_gb: float | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    stepped_down: SteppedDown | None = None
    """What was lowered, where the stage ran with smaller settings than asked for."""


class AssetStatus(Record):
    """One asset of a batch."""

    batch: str
    asset: str
    phase: Phase = Phase.PENDING
    verdict: Verdict | None = None
    stages: dict[Stage, StageStatus] = Field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    gates: dict[Stage, tuple[GateOutcome, ...]] = Field(default_factory=dict)
    """The gates that were applied, by the stage whose metrics they bound."""
    rejected: tuple[RejectedChain, ...] = ()
    """The methods that were tried before those of `stages`, and what rejected their results."""
    failure: Failure | None = None
    run: str | None = None
    """The run that wrote this."""
    updated_at: float = 0.0
    """Unix time of the last change; a running asset whose time stands still has lost its run."""
