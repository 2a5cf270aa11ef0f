"""How long the rest of a batch takes, as a range: its forecast, corrected by how long this run's stages really took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from flows.forecast.estimate import AssetForecast, Range
from models.stage import Stage
from models.status import FINAL_PHASES, AssetStatus, Phase, StageState, StageStatus

_ENDED = frozenset({StageState.COMMITTED, StageState.CACHED, StageState.FAILED, StageState.SKIPPED})


class Eta:
    """The time left of a batch while it runs."""

    def __init__(self, forecasts: Iterable[AssetForecast], at_once: int = 1) -> None:
        self.at_once = at_once
        """Assets in flight; the run sets it when it knows."""
        self._expected: dict[str, dict[Stage, Range]] = {
            each.id: {stage: found.seconds for stage, found in each.stages.items() if found.runs} for each in forecasts
        }

    def expected(self, asset: str) -> dict[Stage, float]:
        """Expected seconds of those stages of an asset that have to run."""
        return {stage: middle for stage, (_, middle, _) in self._expected.get(asset, {}).items()}

    def remaining(self, statuses: Sequence[AssetStatus]) -> Range:
        """Wall seconds until all of these are finished."""
        left = [0.0, 0.0, 0.0]
        for status in statuses:
            for share, expected, _ in self._shares(status):
                left = [so_far + (1.0 - share) * each for so_far, each in zip(left, expected, strict=True)]
        pace = self._pace(statuses) / max(1, self.at_once)
        low, middle, high = (each * pace for each in left)
        return low, middle, high

    def progress(self, statuses: Sequence[AssetStatus]) -> float:
        """The share of the expected work that is done, from 0 to 1."""
        shares = [(share, expected[1]) for status in statuses for share, expected, _ in self._shares(status)]
        total = sum(seconds for _, seconds in shares)
        return sum(share * seconds for share, seconds in shares) / total if total else 1.0

    def _pace(self, statuses: Sequence[AssetStatus]) -> float:
        """What the stages of this run took, over what they were expected to take."""
        spent, planned = 0.0, 0.0
        for status in statuses:
            for _, expected, found in self._shares(status):
                if found.state is StageState.COMMITTED and found.seconds is not None:
                    spent, planned = spent + found.seconds, planned + expected[1]
        return spent / planned if planned > 0 else 1.0

    def _shares(self, status: AssetStatus) -> Iterator[tuple[float, Range, StageStatus]]:
        for stage, expected in self._expected.get(status.asset, {}).items():
            found = status.stages.get(stage, StageStatus())
            over = status.phase in FINAL_PHASES or found.state in _ENDED
            yield (1.0 if over else found.share), expected, found


def words(found: Range) -> str:
    """A range for people.

    >>> words((30.0, 70.0, 130.0)), words((3600.0, 5400.0, 9000.0))
    ('1 to 2 min', '1.0 to 2.5 h')
    """
    low, _, high = found
    if high < 60:
        return "a minute"
    if high < 3600:
        return f"{max(1, round(low / 60))} to {max(2, round(high / 60))} min"
    return f"{low / 3600:.1f} to {high / 3600:.1f} h"


def counts(statuses: Iterable[AssetStatus]) -> Mapping[str, int]:
    """Assets in each phase, in the phases' order."""
    found = [status.phase for status in statuses]
    return {phase.value: found.count(phase) for phase in Phase if phase in found}
