"""The catalogue on SQLite here, and on a real Postgres server where DIGITIZE_TEST_POSTGRES names one."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.catalogue import Catalogue, Outcome
from infra.database import Database, launches, metadata, open_database, schemas
from infra.settings import NightSettings
from infra.storage import FolderStore
from models.digest import canonical_json, digest_of
from models.errors import DigitizeError, ReasonCode
from models.manifest import Latest, Manifest, StageProvenance
from models.quality import Verdict
from models.results import ArtifactRef, Done, FileRef, StageResult
from models.stage import Stage
from models.store import Store
from tests.support import STAGES


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'new folder' / 'catalogue.db'}"
    if request.param == "postgres":
        url = os.environ.get("DIGITIZE_TEST_POSTGRES", "")
        if not url:
            pytest.skip("opt in: DIGITIZE_TEST_POSTGRES=postgresql+pg8000://... names a database to empty")
    found = Database(url)
    with found.begin() as connection:
        for table in metadata.sorted_tables:
            if table is not schemas:
                connection.execute(table.delete())
    yield found
    found.close()


def publish(store: Store, asset: str, version: int = 1, key: str = "k1") -> Manifest:
    provenance = tuple(
        StageProvenance(stage=stage, method="m", version="1", key=f"{key}-{stage}", options={"a": 1})
        for stage in STAGES
    )
    manifest = Manifest(
        asset=asset,
        files=(),
        units="metre",
        scale_source="none",
        scale_uncertainty=None,
        verdict=Verdict.ACCEPT,
        reasons=(),
        metrics={},
        provenance=provenance,
        software="asset-digitizer 1",
        seed=0,
    )
    path = f"assets/{asset}/v{version}/manifest.json"
    store.put_bytes(path, canonical_json(manifest))
    latest = Latest(
        asset=asset, version=version, manifest=path, manifest_sha256=digest_of(manifest), verdict=Verdict.ACCEPT
    )
    store.put_bytes(f"assets/{asset}/latest.json", canonical_json(latest))
    return manifest


def test_what_is_published_is_read_once_and_again_when_it_changes(database: Database, store: Store) -> None:
    catalogue = Catalogue(database)
    for asset in ("cup", "jug"):
        publish(store, asset)
    assert catalogue.sync(store) == 2
    assert catalogue.sync(store) == 0
    publish(store, "cup", version=2, key="k2")
    store.delete("assets/jug/latest.json")
    assert catalogue.sync(store) == 1
    found = catalogue.published(store.uri)
    assert set(found) == {"cup"}
    assert found["cup"].version == 2
    assert found["cup"].stages["pose"] == ("m", "1", "k2-pose", digest_of({"a": 1}))
    assert catalogue.published("elsewhere") == {}


def test_a_damaged_record_does_not_stop_the_others(database: Database, tmp_path: Path) -> None:
    store, catalogue = FolderStore(tmp_path / "target"), Catalogue(database)
    publish(store, "cup")
    publish(store, "jug")
    store.put_bytes("assets/jug/latest.json", b"{half")
    assert catalogue.sync(store) == 1
    assert set(catalogue.published(store.uri)) == {"cup"}


def test_outcomes_and_times(database: Database) -> None:
    catalogue = Catalogue(database)
    first = Outcome("cup", "s1", {"ingest": ["m", "1", "o"]}, "quarantined", None, 1, 10.0)
    catalogue.record_outcomes("/store", "shelf", [first], "run-1")
    second = Outcome("cup", "s1", {"ingest": ["m", "1", "o"]}, "done", "accept", 1, 20.0)
    catalogue.record_outcomes("/store", "shelf", [second], "run-2")
    assert catalogue.outcomes("/store", "shelf") == {"cup": second}
    done = Done(
        **{"key": "k", "asset": "cup", "stage": Stage.POSE, "method": "colmap", "version": "1", "options": {"a": 1}},
        **{"seed": 0, "attempt": "a", "files": (), "digest": "d", "result": StageResult()},
        **{"seconds": 12.5, "cpu_seconds": 20.0, "peak_memory_gb": 0.5},
    )
    catalogue.record_times("/store", [done], 40)
    catalogue.record_times("/store", [done], 40)
    assert [(row["seconds"], row["photos"]) for row in catalogue.times("pose", "colmap", "1")] == [(12.5, 40)]
    assert catalogue.times("pose", "colmap", "2") == []


def test_nights_come_latest_first(database: Database) -> None:
    catalogue = Catalogue(database)
    for number in range(3):
        catalogue.record_night(
            **{"store": "/s", "batch": "shelf", "started_at": float(number), "ended_at": number + 1.0, "run": None},
            **{"counts": {"done": number}, "success_ratio": 1.0, "left_over": 0, "ok": 1},
        )
    assert [night["counts"] for night in catalogue.nights("shelf", 2)] == [{"done": 2}, {"done": 1}]


def test_one_of_many_inserts_wins(database: Database) -> None:
    row = {"batch": "b", "capture": "c", "digest": "d", "state": "claimed", "lease_until": 0.0, "run": None, "at": 0.0}
    wins: list[int] = []

    def insert(i: int) -> None:
        if database.add_new(launches, row | {"owner": str(i)}):
            wins.append(i)

    threads = [threading.Thread(target=insert, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1


def test_sources_are_hashed_once_until_they_change(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"one")
    calls = []

    def make() -> ArtifactRef:
        calls.append(1)
        files = tuple(FileRef(path=p.name, sha256=p.read_text(), bytes=1) for p in sorted(folder.iterdir()))
        return ArtifactRef(digest=ArtifactRef.content_digest(files), uri=str(folder), files=files)

    def remembered() -> ArtifactRef:
        found = {path.name: path for path in sorted(folder.iterdir())}
        return Catalogue(database).remember(str(folder), found, make)

    old = time.time() - 60
    os.utime(folder / "a.jpg", (old, old))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.catalogue._RACY_S", 0.0)
        before = remembered()
        assert remembered() == before and len(calls) == 1
        (folder / "a.jpg").write_bytes(b"two")  # the same size; its times tell
        assert remembered().digest != before.digest and len(calls) == 2
    (folder / "b.jpg").write_bytes(b"new")  # changed just now: it may change again unseen, so nothing is remembered
    remembered()
    remembered()
    assert len(calls) == 4


def test_a_database_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for url in ("mysql://x/y", "sqlite", ""):
        with pytest.raises(DigitizeError) as caught:
            Database(url)
        assert caught.value.code is ReasonCode.SPEC_INVALID and "DIGITIZE_DATABASE_URL" in caught.value.message
    with pytest.raises(DigitizeError) as caught:
        Database("postgresql+pg8000://u:hidden-password@127.0.0.1:9/x")
    assert caught.value.retryable and "hidden-password" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "pg8000", None)  # as on a machine without the extra
    with pytest.raises(DigitizeError, match="pg8000") as caught:
        Database("postgresql+pg8000://u:hidden-password@127.0.0.1:9/x")
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY and "extra `postgres`" in caught.value.hint
    other = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with other.begin() as connection:
        connection.execute(schemas.update().values(version=999))
    with pytest.raises(DigitizeError, match="schema"):
        Database(f"sqlite:///{tmp_path / 'x.db'}")


def test_the_default_is_a_file_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    open_database(NightSettings(database_url=None))
    assert (tmp_path / "digitize" / "catalogue.db").is_file()
