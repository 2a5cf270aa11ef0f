"""How long the rest of a batch takes, as a range, from what earlier commits took."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from statistics import quantiles

from flows.forecast.estimate import asset_size, comparable
from flows.plan.committed import AssetPlan, StagePlan
from infra.catalogue import Catalogue
from models.digest import digest_of
from models.errors import DigitizeError
from models.stage import Stage
from models.status import FINAL_PHASES, AssetStatus, Phase, StageState, StageStatus

_log = logging.getLogger("digitize.eta")
_ENDED = frozenset({StageState.COMMITTED, StageState.CACHED, StageState.FAILED, StageState.SKIPPED})
_OWN_GUESS = (0.5, 1.0, 2.0)
_FEW = (0.7, 1.0, 1.5)

Range = tuple[float, float, float]
"""Low, expected, high: where enough is known, a tenth, half and nine tenths of the cases lie below."""


class Eta:
    """Expected wall seconds of every stage of some assets.

    Args:
        at_once: assets in flight.
    """

    def __init__(self, plans: Iterable[AssetPlan], catalogue: Catalogue | None, at_once: int) -> None:
        self._at_once = max(1, at_once)
        self._spreads: dict[tuple[str, str, str, str], Range] = {}
        self._expected: dict[str, dict[Stage, Range]] = {}
        for plan in plans:
            photos, megapixels = asset_size(plan, {}) if "photos" in plan.sources else (60, 12.0)
            for stage, each in plan.stages.items():
                seconds = each.estimate(photos, megapixels).seconds
                low, middle, high = self._spread(each, megapixels, catalogue)
                self._expected.setdefault(plan.id, {})[stage] = (seconds * low, seconds * middle, seconds * high)

    def _spread(self, plan: StagePlan, megapixels: float, catalogue: Catalogue | None) -> Range:
        """By how much earlier commits of the same method with the same options missed the method's own estimate."""
        options = digest_of(comparable(plan.options))
        key = (plan.stage, plan.method, plan.version, options)
        if key not in self._spreads:
            rows = []
            try:
                rows = [] if catalogue is None else catalogue.times(plan.stage, plan.method, plan.version)
            except DigitizeError as error:
                _log.warning("no times of earlier runs: %s", error)
            photos = {row["photos"] for row in rows if row["photos"]}
            own = {count: plan.estimate(count, megapixels).seconds for count in photos}
            ratios = [
                row["seconds"] / max(own[row["photos"]], 0.1)
                for row in rows
                if row["options"] == options and row["photos"]
            ]
            self._spreads[key] = spread(ratios)
        return self._spreads[key]

    def remaining(self, statuses: Sequence[AssetStatus]) -> Range:
        """Wall seconds until all of these are finished."""
        left = [0.0, 0.0, 0.0]
        for status in statuses:
            for share, expected in self._shares(status):
                left = [so_far + (1.0 - share) * each for so_far, each in zip(left, expected, strict=True)]
        low, middle, high = (each / self._at_once for each in left)
        return low, middle, high

    def progress(self, statuses: Sequence[AssetStatus]) -> float:
        """The share of the expected work that is done, from 0 to 1."""
        shares = [(share, expected[1]) for status in statuses for share, expected in self._shares(status)]
        total = sum(seconds for _, seconds in shares)
        return sum(share * seconds for share, seconds in shares) / total if total else 1.0

    def _shares(self, status: AssetStatus) -> Iterable[tuple[float, Range]]:
        for stage, expected in self._expected.get(status.asset, {}).items():
            found = status.stages.get(stage, StageStatus())
            over = status.phase in FINAL_PHASES or found.state in _ENDED
            yield (1.0 if over else found.share), expected


def spread(ratios: Sequence[float]) -> Range:
    """Low, middle and high of observed ratios; wide guesses for few or none.

    >>> spread([]), spread([2.0])
    ((0.5, 1.0, 2.0), (1.4, 2.0, 3.0))
    """
    if not ratios:
        return _OWN_GUESS
    if len(ratios) < 3:
        middle = sum(ratios) / len(ratios)
        return _FEW[0] * middle, middle, _FEW[2] * middle
    cuts = quantiles(ratios, n=10, method="inclusive")
    return cuts[0], cuts[4], cuts[8]


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
