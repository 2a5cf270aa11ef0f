"""Free what no published version, no live run and no present specification needs.

A commit is `work/<asset>/<stage>/<key>/`. It is kept for ever while a manifest at any target names its key, while any
stage of its asset is at work, or while the specification as it is now would reuse it. The rest goes once it is old
enough, or earlier, the oldest first, when the store is over its quota. All ages are by the store's own clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from flows.plan.committed import BatchPlan
from flows.plan.walk import all_walks
from infra.storage import open_store
from models.artifacts import DONE_FILE, MANIFEST_FILE
from models.errors import DigitizeError, ReasonCode
from models.lease import LEASE_FILE
from models.manifest import Manifest
from models.results import Done
from models.stage import Stage
from models.store import Stat, Store

_WORKERS = 16
_DAY_S = 86400.0
LIVE_LEASE_S = 3600.0
"""A lease whose heartbeat is older than this, by the store's clock, is nobody's. Heartbeats come every 15 seconds."""
YOUNGEST_S = _DAY_S
"""Nothing younger is ever removed: a run that just read it may be about to use it."""

CommitId = tuple[str, str, str]
"""Asset, stage, key."""


@dataclass
class Commit:
    """What lies below one `work/<asset>/<stage>/<key>/`."""

    id: CommitId
    stats: list[Stat] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of all its objects."""
        return sum(stat.bytes for stat in self.stats)

    @property
    def newest(self) -> float:
        """When anything of it changed last."""
        return max((stat.modified or 0.0 for stat in self.stats), default=0.0)

    @property
    def prefix(self) -> str:
        """Its place in the store."""
        return f"work/{'/'.join(self.id)}"


@dataclass(frozen=True)
class Waste:
    """One thing to remove."""

    what: str
    """`commit`, or `attempts`: files of attempts that lost, and of work that nobody goes on with."""
    prefix: str
    keys: tuple[str, ...]
    """In the order in which they go: the commit's marker first, so that nobody finds half a commit."""
    bytes: int
    age_s: float


@dataclass(frozen=True)
class Survey:
    """What a store holds and what may go."""

    total_bytes: int
    protected: dict[str, int]
    """Bytes that stay, by why: `published`, `live`, `current`, `young`."""
    waste: tuple[Waste, ...]
    over_quota_bytes: int
    """What is still too much when all waste is gone."""


def survey(plan: BatchPlan, store: Store, older_than_days: float, quota_gb: float | None = None) -> Survey:
    """Look at everything and decide; nothing is changed.

    Args:
        plan: every asset of the specification: what they would reuse stays.

    Raises DigitizeError when the store or a target does not answer: without knowing what is published nothing may go.
    """
    now = store_clock(store)
    commits = _commits(store)
    published = {key for uri in _targets(plan, store, commits) for key in published_keys(open_store(uri))}
    live = {
        commit.id[0] for commit in commits.values() for stat in commit.stats if _is_live_lease(stat, now, LIVE_LEASE_S)
    }
    current = _current(plan, store)
    protected = {"published": 0, "live": 0, "current": 0, "young": 0}
    waste: list[Waste] = []
    spare: list[Waste] = []
    for commit in commits.values():
        age = now - commit.newest
        if why := _why_kept(commit, published, live, current):
            protected[why] += commit.bytes
            if why != "live":
                waste += _lost_attempts(commit, store, now)
        elif age < YOUNGEST_S:
            protected["young"] += commit.bytes
        elif age < older_than_days * _DAY_S:
            spare.append(_all_of(commit, age))
        else:
            waste.append(_all_of(commit, age))
    total = sum(commit.bytes for commit in commits.values())
    over = 0 if quota_gb is None else total - sum(each.bytes for each in waste) - round(quota_gb * 1e9)
    for each in sorted(spare, key=lambda spared: -spared.age_s):
        if over <= 0:
            break
        waste.append(each)
        over -= each.bytes
    return Survey(total, protected, tuple(waste), max(0, over))


def collect(store: Store, waste: Iterable[Waste], on_freed: Callable[[Waste], None] = lambda each: None) -> int:
    """Remove waste; the bytes that were freed. An asset that came to life since the survey is left alone."""
    now = store_clock(store)

    def remove(each: Waste) -> int:
        asset = each.prefix.split("/")[1]
        if any(_is_live_lease(stat, now, LIVE_LEASE_S) for stat in store.list(f"work/{asset}/")):
            return 0
        for key in each.keys:
            store.delete(key)
        on_freed(each)
        return each.bytes

    with ThreadPoolExecutor(_WORKERS) as pool:
        return sum(pool.map(remove, waste))


def store_clock(store: Store) -> float:
    """The store's present time, which all its objects' times are by."""
    key = f"gc/clock-{uuid.uuid4().hex}"
    store.put_bytes(key, b"now")
    try:
        return next(stat.modified or 0.0 for stat in store.list(key))
    finally:
        store.delete(key)


def _targets(plan: BatchPlan, store: Store, commits: Iterable[CommitId]) -> set[str]:
    """Every place that anything in this store was published to: by the present specification's targets, and by the
    receipts of all publish stages, which other specifications may have run."""
    asked = {target["to"] for asset in plan.assets for target in asset.stages[Stage.PUBLISH].options.get("targets", ())}
    keys = [f"work/{asset}/{stage}/{key}/{DONE_FILE}" for asset, stage, key in commits if stage == Stage.PUBLISH]
    with ThreadPoolExecutor(_WORKERS) as pool:
        dones = [Done.model_validate_json(data) for data in pool.map(store.get_bytes, keys) if data is not None]
    receipts = [receipt for done in dones for receipt in done.result.facts.get("receipts", ())]
    return asked | {receipt["target"] for receipt in receipts}


def published_keys(target: Store) -> set[CommitId]:
    """What the manifests of all versions at a target name: not those in force alone, for a rollback may come.

    Raises DigitizeError when a manifest is there and cannot be read: what it names may not go.
    """
    keys = [stat.key for stat in target.list("assets/") if stat.key.endswith(f"/{MANIFEST_FILE}")]

    def read(key: str) -> list[CommitId]:
        data = target.get_bytes(key)
        try:
            manifest = None if data is None else Manifest.model_validate_json(data)
        except ValueError as error:
            raise DigitizeError(
                ReasonCode.CHECKSUM_MISMATCH,
                f"expected a manifest, found something else: {error}",
                "Nothing is removed while it is unknown what is published: `digitize verify` names what is damaged.",
                path=f"{target.uri}/{key}",
            ) from error
        return [] if manifest is None else [(manifest.asset, each.stage, each.key) for each in manifest.provenance]

    with ThreadPoolExecutor(_WORKERS) as pool:
        return {commit for found in pool.map(read, keys) for commit in found}


def _commits(store: Store) -> dict[CommitId, Commit]:
    commits: dict[CommitId, Commit] = {}
    for stat in store.list("work/"):
        parts = stat.key.split("/")
        if len(parts) >= 5:
            name = (parts[1], parts[2], parts[3])
            commits.setdefault(name, Commit(name)).stats.append(stat)
    return commits


def _current(plan: BatchPlan, store: Store) -> set[CommitId]:
    """The commits that the specification would reuse, and where its assets stand now. Those of rejected choices of
    methods stay: what is in use follows from them."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        walks = pool.map(lambda asset: all_walks(asset, store), plan.assets)
        found = set()
        for walked in (each for several in walks for each in several):
            found |= {(walked.plan.id, str(stage), done.key) for stage, done in walked.done.items()}
            if walked.request is not None:  # its checkpoint
                found.add((walked.plan.id, str(walked.request.stage), walked.request.key))
        return found


def _why_kept(commit: Commit, published: set[CommitId], live: set[str], current: set[CommitId]) -> str:
    if commit.id in published:
        return "published"
    if commit.id[0] in live:
        return "live"
    return "current" if commit.id in current else ""


def _is_live_lease(stat: Stat, now: float, live_s: float) -> bool:
    return stat.key.endswith(f"/{LEASE_FILE}") and (stat.modified is None or now - stat.modified < live_s)


def _all_of(commit: Commit, age: float) -> Waste:
    first = f"{commit.prefix}/{DONE_FILE}"
    keys = sorted((stat.key for stat in commit.stats), key=lambda key: key != first)
    return Waste("commit", commit.prefix, tuple(keys), commit.bytes, age)


def _lost_attempts(commit: Commit, store: Store, now: float) -> list[Waste]:
    """Files of attempts that did not win the commit, once they are old enough to be nobody's."""
    attempts: dict[str, list[Stat]] = {}
    for stat in commit.stats:
        parts = stat.key.split("/")
        if len(parts) > 6 and parts[4] == "attempts":
            attempts.setdefault(parts[5], []).append(stat)
    data = store.get_bytes(f"{commit.prefix}/{DONE_FILE}") if len(attempts) > 1 else None
    if data is None:
        return []
    winner = Done.model_validate_json(data).attempt
    found = []
    for name, stats in attempts.items():
        age = now - max(stat.modified or now for stat in stats)
        if name != winner and age >= YOUNGEST_S:
            keys = tuple(stat.key for stat in stats)
            found.append(Waste("attempts", f"{commit.prefix}/attempts/{name}", keys, sum(s.bytes for s in stats), age))
    return found
