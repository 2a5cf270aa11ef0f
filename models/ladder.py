"""Smaller settings to fall back on, declared by each method: which options a step down lowers, and how far.

A ladder is read by the flow, never by the stage: a stage that ran out of memory, disk or time is sent again with the
options of the next step, and its result is committed under the key of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from models.errors import ReasonCode
from models.record import Record

MOST_STEPS = 2
"""How often one stage of one run steps down."""


class Lower(Record):
    """How one option is lowered by a step."""

    factor: float = Field(default=1.0, gt=0, le=1)
    minus: float = Field(default=0.0, ge=0)
    least: float
    """Nothing is lowered below this."""

    def apply(self, value: float) -> float:
        """The next smaller value, a whole number for whole numbers.

        >>> Lower(factor=0.5, least=100).apply(250), Lower(minus=1, least=15).apply(15), Lower(least=9).apply(5.0)
        (125, 15, 5.0)
        """
        lowered = min(value, max(value * self.factor - self.minus, self.least))
        return int(lowered) if isinstance(value, int) else lowered


class Ladder(Record):
    """What a step down lowers, by what there was too little of. Nothing where smaller settings would not help."""

    memory: dict[str, Lower] = Field(default_factory=dict)
    disk: dict[str, Lower] = Field(default_factory=dict)
    time: dict[str, Lower] = Field(default_factory=dict)

    def step_down(self, options: Mapping[str, Any], code: ReasonCode) -> dict[str, Any]:
        """The options that the next step lowers, with their new values; empty when there is no further step."""
        rungs = {
            ReasonCode.OUT_OF_MEMORY: self.memory,
            ReasonCode.OUT_OF_DISK: self.disk,
            ReasonCode.DEADLINE: self.time,
        }
        rung = rungs.get(code, {})
        lowered = {name: lower.apply(options[name]) for name, lower in rung.items() if _is_number(options.get(name))}
        return {name: value for name, value in lowered.items() if value < options[name]}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class SteppedDown(Record):
    """That a stage's result was made with smaller settings than asked for."""

    because: ReasonCode
    """What there was too little of."""
    asked: dict[str, Any]
    """The options that were lowered, as asked for."""
    used: dict[str, Any]
    """The same options, as used."""

    @staticmethod
    def between(because: ReasonCode, asked: Mapping[str, Any], used: Mapping[str, Any]) -> SteppedDown:
        """What changed between two sets of effective options."""
        changed = [name for name in asked if used.get(name) != asked[name]]
        return SteppedDown(
            because=because,
            asked={name: asked[name] for name in changed},
            used={name: used.get(name) for name in changed},
        )

    def __str__(self) -> str:
        """For people: `samples_per_step 32768 -> 16384 (out_of_memory)`."""
        changes = ", ".join(f"{name} {_brief(self.asked[name])} -> {_brief(self.used[name])}" for name in self.asked)
        return f"{changes} ({self.because})"


def _brief(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
