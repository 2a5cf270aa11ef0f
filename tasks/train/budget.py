"""When training stops: the options that every method has. Light: no torch."""

from __future__ import annotations

from pydantic import Field

from models.record import Record


class BudgetOptions(Record):
    """The budget of the one training loop (trainer.train): it stops at the first of these."""

    steps: int = Field(default=6000, ge=1)
    """Optimisation steps. Raise it when the held-out PSNR of the report still climbs at the end."""
    seconds: float | None = Field(default=None, gt=0)
    """Stop after that many seconds of training as well. Equal inputs then no longer give equal bytes."""
    target_db: float = Field(default=0.0, ge=0)
    """Stop when the held-out PSNR reaches that many dB; 0 never does."""
    plateau_db: float = Field(default=0.0, ge=0)
    """Stop when three evaluations in a row together gained less than this many dB; 0 never does."""
    evaluate_every: int = Field(default=500, ge=1)
    """Steps between evaluations on held-out pixels."""
    checkpoint_every_s: float = Field(default=30.0, gt=0)
    """Seconds between checkpoints. Lower it on machines that are taken away without warning."""
