"""The one training loop: budgets, evaluation, checkpoints, exact resume, recovery from divergence.

A learner (see `Learner`) holds everything that changes; the loop decides when to stop, what to keep and when to step
back. Snapshots are taken at fixed steps only, so that a run that was killed and resumed takes the very same path.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.errors import DigitizeError, ReasonCode
from models.malloc import keep_freed_memory
from tasks.context import Context
from tasks.train.options import BudgetOptions
from tasks.train.pace import Pace

CHECKPOINT = "trainer.safetensors"
SNAPSHOT_STEPS = 50
"""A state to go back to is kept every so many steps."""
LOWER_RATE = 0.3
"""Factor on the learning rate after each divergence."""
MAX_DIVERGENCES = 3
PROGRESS_S = 1.0


class StepFacts(NamedTuple):
    """What one step did."""

    loss: float
    rays: int
    samples: int


class Learner(Protocol):
    """What the loop trains."""

    def step(self, share: float, rate: float) -> StepFacts:
        """One optimisation step at `share` of the budget, the learning rate multiplied by `rate`."""
        ...

    def evaluate(self) -> float:
        """Held-out PSNR in dB on a fixed subset of pixels; changes nothing."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that later steps depend on, random generators included; copies."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a `state`."""
        ...


@dataclass
class Progress:
    """Where a run stands. Part of every checkpoint."""

    step: int = 0
    rays: int = 0
    samples: int = 0
    rate: float = 1.0
    divergences: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    """`{"step", "psnr", "loss"}` of each evaluation."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """`{"step", "loss", "rays", "samples"}` every SNAPSHOT_STEPS steps, of that step."""


def train(learner: Learner, budget: BudgetOptions, context: Context) -> Progress:
    """Train until the budget is spent; resumes from a checkpoint of an earlier attempt.

    Raises:
        DigitizeError(diverged): the loss stopped being finite MAX_DIVERGENCES times.
        DigitizeError(cancelled, deadline): from the context; a checkpoint is left behind.
    """
    keep_freed_memory()
    progress = _resume(learner, context) or Progress()
    good = _Snapshot(learner, progress)
    saved_at = reported_at = now = time.monotonic()
    pace = Pace()
    while not _finished(progress, budget):
        try:
            context.check()
        except DigitizeError:
            good.save(context)
            raise
        started = time.monotonic()
        facts = learner.step(_share(progress, budget), progress.rate)
        progress.seconds += time.monotonic() - started
        if not math.isfinite(facts.loss):
            progress = good.step_back(learner, progress)
            continue
        progress.step, progress.loss = progress.step + 1, facts.loss
        progress.rays += facts.rays
        progress.samples += facts.samples
        if progress.step % budget.evaluate_every == 0 and progress.step < budget.steps:
            _evaluate(learner, progress)
        if progress.step % SNAPSHOT_STEPS == 0:
            row = {"step": progress.step, "loss": facts.loss, "rays": facts.rays, "samples": facts.samples}
            progress.curve.append(row)
            good = _Snapshot(learner, progress)
            if time.monotonic() - saved_at >= budget.checkpoint_every_s:
                good.save(context)
                saved_at = time.monotonic()
        before, now = now, time.monotonic()
        pace.add(now - before)
        if now - reported_at >= PROGRESS_S:
            reported_at = now
            _report(context, progress, budget, pace)
    _evaluate(learner, progress)
    return progress


def _evaluate(learner: Learner, progress: Progress) -> None:
    if progress.history and progress.history[-1]["step"] == progress.step:
        return
    progress.history.append({"step": progress.step, "psnr": learner.evaluate(), "loss": progress.loss})


class _Snapshot:
    """A state of the learner and of the run to go back to."""

    def __init__(self, learner: Learner, progress: Progress) -> None:
        self.state, self.progress = learner.state(), json.dumps(asdict(progress), sort_keys=True)

    def save(self, context: Context) -> None:
        path = context.scratch / CHECKPOINT
        context.scratch.mkdir(parents=True, exist_ok=True)
        save_file(self.state, path, metadata={"progress": self.progress})
        context.save_checkpoint(CHECKPOINT, path)

    def step_back(self, learner: Learner, now: Progress) -> Progress:
        """Restore, with a lower learning rate."""
        if now.divergences + 1 >= MAX_DIVERGENCES:
            raise DigitizeError(
                ReasonCode.DIVERGED,
                f"expected a finite loss, found none {MAX_DIVERGENCES} times, last at step {now.step}",
            )
        learner.restore(self.state)
        earlier = Progress(**json.loads(self.progress))
        earlier.divergences, earlier.rate = now.divergences + 1, now.rate * LOWER_RATE
        earlier.seconds = now.seconds
        return earlier


def _resume(learner: Learner, context: Context) -> Progress | None:
    path = context.load_checkpoint(CHECKPOINT)
    if path is None:
        return None
    state, text = _read_checkpoint(path)
    learner.restore(state)
    return Progress(**json.loads(text))


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], str]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["progress"]  # noqa: SIM118


def _share(progress: Progress, budget: BudgetOptions) -> float:
    """Share of the budget that is spent."""
    by_time = progress.seconds / budget.seconds if budget.seconds else 0.0
    return min(1.0, max(progress.step / budget.steps, by_time))


def _finished(progress: Progress, budget: BudgetOptions) -> bool:
    if _share(progress, budget) >= 1.0:
        return True
    if budget.target_db > 0 and progress.history and progress.history[-1]["psnr"] >= budget.target_db:
        return True
    if budget.plateau_db <= 0 or len(progress.history) < 4 or progress.step % budget.evaluate_every:
        return False
    return progress.history[-1]["psnr"] - progress.history[-4]["psnr"] < budget.plateau_db


def _report(context: Context, progress: Progress, budget: BudgetOptions, pace: Pace) -> None:
    facts: dict[str, Any] = {"step": progress.step}
    if progress.seconds > 0:
        facts["samples_per_s"] = round(progress.samples / progress.seconds)
    if progress.history:
        facts["psnr"] = round(progress.history[-1]["psnr"], 2)
    if (left := _remaining(progress, budget, pace)) is not None:
        facts["remaining_s"] = [round(left[0]), math.ceil(left[1])]
    context.progress(_share(progress, budget), f"step {progress.step} of {budget.steps}", facts)


def _remaining(progress: Progress, budget: BudgetOptions, pace: Pace) -> tuple[float, float] | None:
    """Seconds that are left, low and high; from the next evaluation on, where that may end the run."""
    left = pace.remaining(budget.steps - progress.step)
    if left is None:
        return None
    low, high = left
    if budget.target_db > 0 or budget.plateau_db > 0:
        low *= min(1.0, (-progress.step % budget.evaluate_every) / max(budget.steps - progress.step, 1))
    if budget.seconds:
        low, high = (min(each, max(budget.seconds - progress.seconds, 0.0)) for each in (low, high))
    return low, high
