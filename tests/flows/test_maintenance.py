"""Housekeeping: what goes, and above all what stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from flows.housekeeping.gc import Survey, collect, survey
from flows.housekeeping.published import rollback, verify_target, versions, withdraw
from flows.plan.batch_plan import plan_batch
from flows.plan.walk import walk
from infra.storage import FolderStore, S3Store, open_store
from models.digest import canonical_json, sha256_bytes
from models.errors import DigitizeError, ReasonCode
from models.manifest import Latest, Manifest, PublishedFile, StageProvenance
from models.quality import Verdict
from models.spec_yaml import load_spec
from models.stage import Stage
from models.store import Store
from tests.flows.cli_stubs import commit_line, install, write_batch
from tests.flows.test_cli import tell
from tests.support import STAGES

DAY = 86400.0


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import registry

    monkeypatch.setattr(registry, "method", registry.method)
    install()


def age(folder: Path, days: float) -> None:
    """Make every file below look that old."""
    then = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def look(spec: Path, days: float = 30, quota_gb: float | None = None) -> tuple[Survey, FolderStore]:
    plan = plan_batch(load_spec(spec))
    store = open_store(plan.store_uri)
    assert isinstance(store, FolderStore)
    return survey(plan, store, days, quota_gb), store


def put_version(store: Store, asset: str, version: int, keys: dict[str, str] | None = None, text: str = "glb") -> None:
    """A published version, in force."""
    data = f"{text} {version}".encode()
    store.put_bytes(f"assets/{asset}/v{version}/asset.glb", data)
    file = PublishedFile(
        path="asset.glb", sha256=sha256_bytes(data), bytes=len(data), media_type="model/gltf-binary", role="model"
    )
    provenance = tuple(
        StageProvenance(stage=stage, method="m", version="1", key=key, options={})
        for stage, key in (keys or {}).items()
    )
    fixed: dict[str, Any] = {"units": "metre", "scale_source": "none", "scale_uncertainty": None, "seed": 0}
    fixed |= {"verdict": Verdict.ACCEPT, "reasons": (), "metrics": {}, "software": "asset-digitizer 1"}
    manifest = Manifest(asset=asset, files=(file,), provenance=provenance, **fixed)
    path = f"assets/{asset}/v{version}/manifest.json"
    store.put_bytes(path, canonical_json(manifest))
    digest = sha256_bytes(canonical_json(manifest))
    latest = Latest(asset=asset, version=version, manifest=path, manifest_sha256=digest, verdict=Verdict.ACCEPT)
    store.put_bytes(f"assets/{asset}/latest.json", canonical_json(latest))


def change(spec: Path) -> None:
    """Other options: the commits that were made are not those that would be reused."""
    spec.write_text(spec.read_text().replace("assets:", "stages: {ingest: {options: {max_edge_px: 99}}}\nassets:"))


def test_what_is_current_stays(tmp_path: Path) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    commit_line(spec, "cup")
    age(spec.parent / "store", 400)
    found, store = look(spec)
    assert found.waste == () and found.protected["current"] == found.total_bytes > 0
    assert collect(store, found.waste) == 0


def test_what_nothing_refers_to_goes_when_it_is_old(tmp_path: Path) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    commit_line(spec, "cup")
    change(spec)
    age(spec.parent / "store", 0.5)
    assert look(spec, days=1, quota_gb=0)[0].waste == (), "nothing younger than a day, whatever the quota"
    age(spec.parent / "store", 20)
    assert look(spec, days=30)[0].waste == ()
    age(spec.parent / "store", 31)
    found, store = look(spec, days=30)
    assert len(found.waste) == len(STAGES) and {each.what for each in found.waste} == {"commit"}
    assert all(each.keys[0].endswith("/DONE.json") for each in found.waste)
    assert collect(store, found.waste) == found.total_bytes
    assert list(store.list("work/")) == []


@pytest.mark.parametrize("where", ["published", "elsewhere"])
def test_what_a_published_version_refers_to_stays(tmp_path: Path, where: str) -> None:
    """Even an old version, even at a target that only an earlier run's receipts name."""
    spec = write_batch(tmp_path / "shelf", "cup")
    dones = commit_line(spec, "cup")
    target = FolderStore(spec.parent / "published")
    put_version(target, "cup", 1, {str(stage): done.key for stage, done in dones.items() if stage is not Stage.PUBLISH})
    put_version(target, "cup", 2)
    if where == "elsewhere":
        spec.write_text(spec.read_text().replace("to: published", "to: another"))
    change(spec)
    age(spec.parent / "store", 400)
    found, store = look(spec, quota_gb=0)
    assert {each.prefix.split("/")[2] for each in found.waste} == {"publish"}
    collect(store, found.waste)
    kept = {stat.key.split("/")[2] for stat in store.list("work/")}
    assert kept == {str(stage) for stage in STAGES} - {"publish"}
    assert found.over_quota_bytes == found.protected["published"] > 0


def test_a_target_that_is_damaged_stops_it(tmp_path: Path) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    commit_line(spec, "cup")
    target = FolderStore(spec.parent / "published")
    put_version(target, "cup", 1)
    target.put_bytes("assets/cup/v1/manifest.json", b"{half")
    with pytest.raises(DigitizeError, match="expected a manifest"):
        look(spec)


def test_what_a_live_run_works_on_stays(tmp_path: Path) -> None:
    spec = write_batch(tmp_path / "shelf", "cup", "jug")
    for asset in ("cup", "jug"):
        commit_line(spec, asset, until=Stage.TRAIN)
    change(spec)
    age(spec.parent / "store", 400)
    store = FolderStore(spec.parent / "store")
    store.put_bytes("work/cup/surface/abc/lease.json", b"{}")
    store.put_bytes("work/jug/surface/abc/lease.json", b"{}")
    age(spec.parent / "store" / "work" / "jug", 400)  # its heartbeat stands still since long
    found, _ = look(spec, quota_gb=0)
    assert {each.prefix.split("/")[1] for each in found.waste} == {"jug"} and found.protected["live"] > 0
    store.put_bytes("work/jug/pose/abc/lease.json", b"{}")  # it comes to life after the survey
    assert collect(store, found.waste) == 0


def test_attempts_that_lost_go(tmp_path: Path) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    dones = commit_line(spec, "cup")
    lost = f"work/cup/train/{dones[Stage.TRAIN].key}/attempts/lost"
    store = FolderStore(spec.parent / "store")
    store.put_bytes(f"{lost}/field.bin", b"x" * 1000)
    assert look(spec)[0].waste == ()
    age(spec.parent / "store", 2)
    found, _ = look(spec)
    assert [(each.what, each.prefix, each.bytes) for each in found.waste] == [("attempts", lost, 1000)]
    collect(store, found.waste)
    plan = plan_batch(load_spec(spec)).assets[0]
    assert walk(plan, store).request is None


def test_the_oldest_goes_first_when_the_store_is_over_its_quota(tmp_path: Path) -> None:
    spec = write_batch(tmp_path / "shelf", "cup", "jug")
    for asset, days in (("cup", 3), ("jug", 9)):
        commit_line(spec, asset)
        age(spec.parent / "store" / "work" / asset, days)
    change(spec)
    store = FolderStore(spec.parent / "store")
    size = sum(stat.bytes for stat in store.list("work/jug/"))
    total = sum(stat.bytes for stat in store.list("work/"))
    found, _ = look(spec, quota_gb=(total - size) / 1e9)
    assert {each.prefix.split("/")[1] for each in found.waste} == {"jug"} and found.over_quota_bytes == 0
    assert look(spec, quota_gb=total / 1e9)[0].waste == ()


def test_verify_reads_every_byte(store: Store) -> None:
    put_version(store, "cup", 1)
    put_version(store, "cup", 2)
    put_version(store, "jug", 1)
    assert verify_target(store).damages == () and verify_target(store).files == 2
    store.put_bytes("assets/cup/v1/asset.glb", b"bit rot")
    assert verify_target(store).damages == ()
    (damage,) = verify_target(store, every_version=True).damages
    assert damage.path == "assets/cup/v1/asset.glb" and damage.found == f"sha256 {sha256_bytes(b'bit rot')}"
    store.delete("assets/jug/v1/asset.glb")
    store.put_bytes("assets/cup/v2/manifest.json", b"{}")
    found = {each.path: each.found for each in verify_target(store).damages}
    assert found["assets/jug/v1/asset.glb"] == "nothing"
    assert "assets/cup/v2/manifest.json" in found
    assert verify_target(store, ["jug"]).versions == 1


def test_what_rots_in_a_bucket_is_damaged_and_not_gone(s3_bucket: str, tmp_path: Path) -> None:
    """The object still says which sha256 it was put with."""
    store = S3Store(s3_bucket)
    put_version(store, "cup", 1)
    (tmp_path / "rot").write_bytes(b"bit rot")
    store.put_file("assets/cup/v1/asset.glb", tmp_path / "rot", sha256="0" * 64)
    (damage,) = verify_target(store).damages
    assert (damage.path, damage.found) == ("assets/cup/v1/asset.glb", "other bytes")


def test_rollback_and_withdraw(store: Store) -> None:
    for version in (1, 2, 3):
        put_version(store, "cup", version)
    assert versions(store, "cup") == [1, 2, 3]
    assert rollback(store, "cup").version == 2
    assert rollback(store, "cup").version == 1
    with pytest.raises(DigitizeError, match="v1, v2, v3"):
        rollback(store, "cup")
    assert rollback(store, "cup", 3).version == 3
    store.put_bytes("assets/cup/v2/asset.glb", b"bit rot")
    with pytest.raises(DigitizeError) as caught:
        rollback(store, "cup", 2)
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH
    assert withdraw(store, "cup", "the lender asked for it") == 1
    assert store.get_bytes("assets/cup/latest.json") is None
    assert verify_target(store).versions == 0
    assert rollback(store, "cup").version == 3
    assert store.get_bytes("assets/cup/withdrawn.json") is None
    withdraw(store, "cup", "for good", purge=True)
    assert [stat.key for stat in store.list("assets/cup/")] == ["assets/cup/withdrawn.json"]
    with pytest.raises(DigitizeError, match="none"):
        rollback(store, "cup")
    with pytest.raises(DigitizeError, match="found none"):
        withdraw(store, "jug", "no such asset")


def test_the_commands(tmp_path: Path) -> None:
    spec = write_batch(tmp_path / "shelf", "cup")
    commit_line(spec, "cup")
    target = FolderStore(spec.parent / "published")
    put_version(target, "cup", 1)
    put_version(target, "cup", 2)
    assert tell("verify", spec, "--json").document["targets"][0]["files"] == 1
    assert tell("rollback", spec, "cup", "--json").document["versions"] == {target.uri: 1}
    target.put_bytes("assets/cup/v1/asset.glb", b"bit rot")
    assert tell("verify", spec, "--json", code=5).document["targets"][0]["damages"]
    assert tell("withdraw", spec, "cup", "--why", "rights", "--json").document["removed"] == {target.uri: 1}
    change(spec)
    age(spec.parent / "store", 31)
    would = tell("gc", spec, "--dry-run", "--json").document
    assert len(would["waste"]) == len(STAGES) and would["freed_bytes"] == 0
    assert tell("gc", spec, "--json").document["freed_bytes"] == would["total_bytes"]
    tell("verify", spec, "--target", "nowhere", code=2)
