"""What earlier commits of a method took, from the catalogue: the one source of every expected time.

The catalogue is told at the end of each run. One that knows nothing of a store (a new machine, a lost database) first
takes in what the store's own commits say.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from flows.forecast.asset_size import committed_photos
from flows.plan.committed import StagePlan
from infra.catalogue import Catalogue
from models.artifacts import DONE_FILE
from models.digest import digest_of
from models.errors import DigitizeError
from models.results import Done
from models.stage import Stage
from models.store import Store

_log = logging.getLogger("digitize.forecast")
_MOST_COMMITS_READ = 400
_PER_ASSET_OPTIONS = frozenset(
    {"gates", "targets", "region", "format", "mask_role", "features_in_masks", "stepped_down", "rejected"}
)


@dataclass(frozen=True)
class Past:
    """What one commit took."""

    store: str
    asset: str
    photos: int
    seconds: float
    peak_memory_gb: float


class History:
    """Looks each method up once; one catalogue that does not answer is as good as none."""

    def __init__(self, catalogue: Catalogue | None, store: str = "") -> None:
        """
        Args:
            store: the uri of the store that is planned for.
        """
        self._catalogue = catalogue
        self.store = store
        self._known: dict[tuple[str, str, str], dict[str, list[Past]]] = {}

    @staticmethod
    def of(store: Store) -> History:
        """The history for work on a store."""
        try:
            catalogue = Catalogue()
            if not catalogue.has_times(store.uri):
                take_in(catalogue, store)
        except DigitizeError as error:
            _log.warning("no times of earlier runs: %s", error)
            return History(None, store.uri)
        return History(catalogue, store.uri)

    def of_stage(self, plan: StagePlan) -> list[Past]:
        """The latest commits of the same method with the same options, save those that differ by asset."""
        key = (str(plan.stage), plan.method, plan.version)
        if key not in self._known:
            self._known[key] = self._look_up(*key)
        return self._known[key].get(digest_of(comparable(plan.options)), [])

    def _look_up(self, stage: str, method: str, version: str) -> dict[str, list[Past]]:
        try:
            rows = [] if self._catalogue is None else self._catalogue.times(stage, method, version)
        except DigitizeError as error:
            _log.warning("no times of earlier runs: %s", error)
            rows = []
        found = defaultdict(list)
        for row in rows:
            if row["photos"]:
                past = Past(row["store"], row["asset"], row["photos"], row["seconds"], row["peak_memory_gb"])
                found[row["options"]].append(past)
        return found


def take_in(catalogue: Catalogue, store: Store) -> None:
    """Tell a catalogue what a store's commits took, of at most some hundreds of them."""
    keys = (stat.key for stat in store.list("work/") if stat.key.endswith(f"/{DONE_FILE}"))
    by_asset: dict[str, list[Done]] = defaultdict(list)
    for key in islice(keys, _MOST_COMMITS_READ):
        data = store.get_bytes(key)
        if data is not None:
            done = Done.model_validate_json(data)
            by_asset[done.asset].append(done)
    for dones in by_asset.values():
        note_times(catalogue, store, dones)


def note_times(catalogue: Catalogue, store: Store, dones: Iterable[Done]) -> None:
    """Tell a catalogue what the commits of one asset took. Without its ingest commit they are of unknown size."""
    found = list(dones)
    photos = next((committed_photos(done) for done in found if done.stage is Stage.INGEST), None)
    # one that stepped down stands at its own key as well
    catalogue.record_times(store.uri, [done for done in found if done.stepped_down is None], photos, comparable)


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """The options that say how much work a stage is: without those that belong to one asset."""
    return {name: value for name, value in options.items() if name not in _PER_ASSET_OPTIONS}
