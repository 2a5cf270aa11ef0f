"""One suite over every kind of store."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import numpy as np
import pytest

from infra.storage import FolderStore, S3Store, open_store
from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.store import Store

KINDS = {
    "asset.glb": "model/gltf-binary",
    "report.html": "text/html",
    "map.png": "image/png",
    "manifest.json": "application/json",
}


def test_bytes_round_trip_and_absence(store: Store) -> None:
    assert store.get_bytes("a/b.json") is None
    assert store.stat("a/b.json") is None
    assert store.put_bytes("a/b.json", b"one")
    assert store.get_bytes("a/b.json") == b"one"
    stat = store.stat("a/b.json")
    assert stat is not None
    assert stat.bytes == 3
    store.delete("a/b.json")
    store.delete("a/b.json")
    assert store.get_bytes("a/b.json") is None


def test_create_only_if_absent(store: Store) -> None:
    assert store.put_bytes("x", b"first", if_absent=True)
    assert not store.put_bytes("x", b"second", if_absent=True)
    assert store.get_bytes("x") == b"first"


def test_swap_only_if_unchanged(store: Store) -> None:
    assert not store.put_bytes("x", b"new", if_match='"0123"')
    assert store.get_bytes("x") is None
    store.put_bytes("x", b"old")
    stat = store.stat("x")
    assert stat is not None
    assert store.put_bytes("x", b"new", if_match=stat.etag)
    assert not store.put_bytes("x", b"newer", if_match=stat.etag)
    assert store.get_bytes("x") == b"new"


def test_one_winner_among_many_creators(store: Store) -> None:
    wins: list[int] = []

    def create(i: int) -> None:
        if store.put_bytes("race", str(i).encode(), if_absent=True):
            wins.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.get_bytes("race") == str(wins[0]).encode()


def test_files_and_listing(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "in.bin"
    source.write_bytes(bytes(range(256)) * 100)
    for key in ("p/b", "p/a", "p/sub/c", "q/d", "pq"):
        store.put_file(key, source)
    assert [stat.key for stat in store.list("p/")] == ["p/a", "p/b", "p/sub/c"]
    assert [stat.key for stat in store.list("p")] == ["p/a", "p/b", "p/sub/c", "pq"]
    assert list(store.list("nothing/")) == []
    store.get_file("p/a", tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == source.read_bytes()
    with pytest.raises(DigitizeError) as caught:
        store.get_file("p/none", tmp_path / "out.bin")
    assert caught.value.code == ReasonCode.CHECKSUM_MISMATCH


@pytest.mark.parametrize("bytes_", [0, 1, 9 << 20])
def test_contents_come_back_as_they_were(store: Store, tmp_path: Path, bytes_: int) -> None:
    """Nothing, a single request, and parts; under a name as people give them."""
    source, key = tmp_path / "in.bin", "Fotos #1/Größe 50% (neu)+~[a].jpg"
    source.write_bytes(np.random.default_rng(0).bytes(bytes_))
    store.put_file(key, source)
    assert [(stat.key, stat.bytes) for stat in store.list("Fotos")] == [(key, bytes_)]
    assert store.get_bytes(key) == source.read_bytes()
    assert store.sha256(key) == sha256_file(source)
    store.get_file(key, tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == source.read_bytes()
    with pytest.raises(DigitizeError) as caught:
        store.sha256("none")
    assert caught.value.code == ReasonCode.CHECKSUM_MISMATCH


def test_browsers_are_told_what_they_get(s3_bucket: str, tmp_path: Path) -> None:
    store = S3Store(s3_bucket)
    (tmp_path / "file").write_bytes(b"1")
    for name in ("asset.glb", "report.html", "map.png"):
        store.put_file(name, tmp_path / "file")
    store.put_bytes("manifest.json", b"{}")
    kinds = {name: store._client.head_object(Bucket=s3_bucket[5:], Key=name)["ContentType"] for name in KINDS}
    assert kinds == KINDS


def test_contents_go_where_boto3s_own_chain_leads(
    s3_bucket: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address and keys from AWS's variables, none of ours."""
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"DIGITIZE_S3_{name}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    (tmp_path / "file").write_bytes(b"one")
    store = S3Store(s3_bucket)
    store.put_file("a", tmp_path / "file")
    assert store.get_bytes("a") == b"one"
    assert store.sha256("a") == sha256_file(tmp_path / "file")


def test_what_was_put_with_other_bytes_is_not_believed(s3_bucket: str, tmp_path: Path) -> None:
    """A file that changed between hashing and sending."""
    store = S3Store(s3_bucket)
    (tmp_path / "file").write_bytes(b"one")
    store.put_file("a", tmp_path / "file", sha256="0" * 64)
    with pytest.raises(DigitizeError, match="expected bytes with sha256 000"):
        store.get_file("a", tmp_path / "out")
    with pytest.raises(DigitizeError, match="expected bytes with sha256 000"):
        store.sha256("a")


def test_put_file_copies(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "s")
    source = tmp_path / "checkpoint"
    source.write_bytes(b"1")
    store.put_file("c", source)
    source.write_bytes(b"2")
    assert store.get_bytes("c") == b"1"


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a//b", "a/./b", "", "a\\b"])
def test_keys_stay_inside(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="relative key"):
        store.put_bytes(key, b"")


def test_listing_hides_unfinished_files(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes("a", b"1")
    (tmp_path / ".digitize-tmp-123").write_bytes(b"half")
    assert [stat.key for stat in store.list("")] == ["a"]


def test_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr("infra.storage.os.fsync", full)
    with pytest.raises(DigitizeError) as caught:
        FolderStore(tmp_path).put_bytes("a", b"1")
    assert caught.value.code == ReasonCode.OUT_OF_DISK
    assert list(tmp_path.iterdir()) == []


def test_unreachable_s3_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITIZE_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DIGITIZE_S3_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("DIGITIZE_S3_SECRET_ACCESS_KEY", "y")
    with pytest.raises(DigitizeError) as caught:
        S3Store("s3://bucket").get_bytes("a")
    assert caught.value.code == ReasonCode.STORE_UNREACHABLE
    assert caught.value.retryable


def test_missing_bucket_is_named(s3_bucket: str) -> None:
    with pytest.raises(DigitizeError, match="NoSuchBucket"):
        S3Store("s3://no-such-bucket-here").put_bytes("a", b"1")


def test_open_store_by_uri(tmp_path: Path) -> None:
    assert isinstance(open_store("s3://b/p"), S3Store)
    assert open_store(str(tmp_path)).local_path("a/b") == tmp_path / "a/b"
    with pytest.raises(DigitizeError):
        open_store("s3://")
