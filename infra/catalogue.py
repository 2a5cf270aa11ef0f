"""What is published, how assets last ended, and what stages took: one queryable table each, read from the stores."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from infra.database import Database, nights, open_database, outcomes, published, published_stages, put_rows, stage_times
from infra.database import sources as sources_table
from models.digest import digest_of
from models.errors import DigitizeError
from models.manifest import Latest, Manifest, is_latest_key
from models.results import ArtifactRef, Done
from models.store import Stat, Store

_log = logging.getLogger("digitize.catalogue")
_READERS = 16
_RACY_S = 3.0
"""A file changed this shortly before it was hashed may change again within the same tick of the file system's clock."""


@dataclass(frozen=True)
class Published:
    """An asset's version in force at one target."""

    asset: str
    version: int
    verdict: str
    manifest: str
    stages: dict[str, tuple[str, str, str, str]]
    """Of each stage: method, version, key, digest of its effective options."""


@dataclass(frozen=True)
class Outcome:
    """How the last attempt at an asset ended."""

    asset: str
    sources: str
    """Digest of what the user gave."""
    stages: dict[str, list[str]]
    """Of each stage: method, version, digest of the options asked for; and `seed`."""
    phase: str
    verdict: str | None
    tries: int
    """Attempts with these sources and options that did not end with a result."""
    ended_at: float


class Catalogue:
    """The tables. Every method is one transaction."""

    def __init__(self, database: Database | None = None) -> None:
        self.database = database or open_database()

    def sync(self, store: Store) -> int:
        """Read the `latest.json` records of a target that changed since they were last read; how many did.

        Records that are gone from the target (withdrawn assets) leave the table as well.
        """
        query = sa.select(published.c.asset, published.c.etag).where(published.c.target == store.uri)
        known = {row["asset"]: row["etag"] for row in self.database.rows(query)}
        found = {stat.key.split("/")[1]: stat for stat in store.list("assets/") if is_latest_key(stat.key)}
        changed = [stat for asset, stat in found.items() if known.get(asset) != stat.etag]
        with ThreadPoolExecutor(_READERS) as pool:
            read = [each for each in pool.map(lambda stat: _read(store, stat), changed) if each is not None]
        with self.database.begin() as connection:
            for asset in {*known.keys() - found.keys(), *(row["asset"] for row, _ in read)}:
                for table in (published, published_stages):
                    connection.execute(
                        sa.delete(table).where(table.c.target == store.uri).where(table.c.asset == asset)
                    )
            for row, stages in read:
                put_rows(connection, published, [row])
                put_rows(connection, published_stages, stages)
        return len(read)

    def published(self, target: str) -> dict[str, Published]:
        """What is in force at a target, by asset."""
        stages: dict[str, dict[str, tuple[str, str, str, str]]] = {}
        for row in self.database.rows(sa.select(published_stages).where(published_stages.c.target == target)):
            each = (row["method"], row["version"], row["stage_key"], row["options"])
            stages.setdefault(row["asset"], {})[row["stage"]] = each
        rows = self.database.rows(sa.select(published).where(published.c.target == target))
        return {
            row["asset"]: Published(
                row["asset"], row["version"], row["verdict"], row["manifest"], stages.get(row["asset"], {})
            )
            for row in rows
        }

    def outcomes(self, store: str, batch: str) -> dict[str, Outcome]:
        """How each asset of a batch last ended."""
        query = sa.select(outcomes).where(outcomes.c.store == store).where(outcomes.c.batch == batch)
        return {
            row["asset"]: Outcome(
                row["asset"],
                row["sources"],
                json.loads(row["stages"]),
                row["phase"],
                row["verdict"],
                row["tries"],
                row["ended_at"],
            )
            for row in self.database.rows(query)
        }

    def record_outcomes(self, store: str, batch: str, found: Sequence[Outcome], run: str | None) -> None:
        """Note how assets ended."""
        rows = [
            {
                **{"store": store, "batch": batch, "asset": each.asset, "sources": each.sources},
                **{"stages": json.dumps(each.stages), "phase": each.phase, "verdict": each.verdict},
                **{"tries": each.tries, "run": run, "ended_at": each.ended_at},
            }
            for each in found
        ]
        self.database.put(outcomes, rows)

    def record_times(
        self,
        store: str,
        dones: Iterable[Done],
        photos: int | None = None,
        comparable: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        """Note what commits took.

        Args:
            comparable: of a stage's options, those that say how much work it was.
        """
        rows = [
            {
                **{"store": store, "asset": done.asset, "stage": done.stage, "stage_key": done.key},
                **{"method": done.method, "version": done.version, "options": digest_of(comparable(done.options))},
                **{"photos": photos, "seconds": done.seconds, "cpu_seconds": done.cpu_seconds},
                **{"peak_memory_gb": done.peak_memory_gb, "seen_at": time.time()},
            }
            for done in dones
        ]
        self.database.put(stage_times, rows)

    def has_times(self, store: str) -> bool:
        """Whether anything is known of what commits of a store took."""
        return bool(self.database.rows(sa.select(stage_times.c.asset).where(stage_times.c.store == store).limit(1)))

    def times(self, stage: str, method: str, version: str, limit: int = 200) -> list[dict[str, Any]]:
        """What the latest commits of a method took: `store`, `asset`, `photos`, `options`, `seconds`,
        `peak_memory_gb`."""
        table = stage_times
        query = (
            sa.select(table)
            .where(table.c.stage == stage, table.c.method == method, table.c.version == version)
            .order_by(table.c.seen_at.desc())
            .limit(limit)
        )
        return self.database.rows(query)

    def record_night(self, **values: Any) -> None:
        """Note how a night ended; the columns of `nights`, with `counts` as a dictionary."""
        with self.database.begin() as connection:
            connection.execute(sa.insert(nights).values(**{**values, "counts": json.dumps(values["counts"])}))

    def nights(self, batch: str, limit: int = 30) -> list[dict[str, Any]]:
        """The last nights of a batch, the latest first."""
        query = sa.select(nights).where(nights.c.batch == batch).order_by(nights.c.id.desc()).limit(limit)
        return [{**row, "counts": json.loads(row["counts"])} for row in self.database.rows(query)]

    def remember(self, name: str, files: Mapping[str, Path], make: Callable[[], ArtifactRef]) -> ArtifactRef:
        """What `make` says of some local files, without calling it when they look untouched since it last did.

        Args:
            name: of the place and of how it is read.
            files: by name.

        A database that does not answer costs time alone.
        """
        fingerprint = _fingerprint(files)
        known = None if fingerprint is None else self._source(name, fingerprint)
        if known is not None:
            return known
        ref = make()
        if fingerprint is not None and fingerprint == _fingerprint(files):
            row = {"uri": name, "fingerprint": fingerprint, "ref": ref.model_dump_json(), "seen_at": time.time()}
            try:
                self.database.put(sources_table, [row])
            except DigitizeError as error:
                _log.warning("the hashes of %s were not noted: %s", name, error)
        return ref

    def _source(self, uri: str, fingerprint: str) -> ArtifactRef | None:
        """What was found at a uri when its files looked like this."""
        query = sa.select(sources_table.c.ref).where(
            sources_table.c.uri == uri, sources_table.c.fingerprint == fingerprint
        )
        try:
            found = self.database.rows(query)
        except DigitizeError as error:
            _log.warning("the hashes of %s cannot be looked up: %s", uri, error)
            return None
        return ArtifactRef.model_validate_json(found[0]["ref"]) if found else None


def _fingerprint(files: Mapping[str, Path]) -> str | None:
    """Names, sizes, inodes and times of files; None when one changed just now, or there are none."""
    newest, lines = 0.0, []
    try:
        for name, path in files.items():
            status = path.stat()
            newest = max(newest, status.st_mtime, status.st_ctime)
            lines.append([name, status.st_size, status.st_ino, status.st_mtime_ns])
    except OSError:
        return None
    return digest_of(lines) if files and time.time() - newest > _RACY_S else None


def _read(store: Store, stat: Stat) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The rows of one published asset; None for one that is being withdrawn or is damaged: `digitize verify` says."""
    try:
        latest = Latest.model_validate_json(store.get_bytes(stat.key) or b"")
        manifest = Manifest.model_validate_json(store.get_bytes(latest.manifest) or b"")
    except DigitizeError:
        raise
    except ValueError:
        return None
    asset = stat.key.split("/")[1]
    row = {
        **{"target": store.uri, "asset": asset, "version": latest.version, "verdict": latest.verdict.value},
        **{"manifest": latest.manifest, "manifest_sha256": latest.manifest_sha256, "etag": stat.etag},
        **{"software": manifest.software, "bytes": sum(file.bytes for file in manifest.files)},
        **{"seen_at": time.time()},
    }
    stages = [
        {
            **{"target": store.uri, "asset": asset, "stage": each.stage, "method": each.method},
            **{"version": each.version, "stage_key": each.key, "options": digest_of(each.options)},
        }
        for each in manifest.provenance
    ]
    return row, stages
