"""Sources: order and names, unsafe archives, videos written here, prefixes of a store."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef, FileRef
from tasks.ingest import task
from tasks.ingest.archive import ArchiveLimits, open_archive
from tasks.ingest.sources import natural_key, unique_names, unique_stems
from tests.tasks.ingest.pictures import codes, context_for, ingest, request_for, save_set, scene

LIMITS = ArchiveLimits(max_files=50, max_bytes=100_000_000)


# Names


def test_natural_order() -> None:
    names = ["b.jpg", "img10.jpg", "img2.jpg", "Img1.jpg", "1.jpg"]
    assert sorted(names, key=natural_key) == ["1.jpg", "b.jpg", "Img1.jpg", "img2.jpg", "img10.jpg"]


def test_base_names_stay_unless_they_clash() -> None:
    paths = ("ring1/1.jpg", "ring2/1.JPG", "ring2/2.jpg", "ring1_1.jpg")
    assert unique_names(paths) == ("ring1_1.jpg", "ring2_1.JPG", "2.jpg", "ring1_1-2.jpg")


@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda t: not t.endswith("/")), max_size=8))
def test_names_and_stems_are_unique_and_safe(paths: list[str]) -> None:
    names = unique_names(tuple(paths))
    stems = unique_stems(names)
    assert len({name.casefold() for name in names}) == len({stem.casefold() for stem in stems}) == len(paths)
    for name, stem in zip(names, stems, strict=True):
        assert "/" not in name
        assert "\\" not in name
        assert name.isprintable() or not any(ord(letter) < 32 for letter in name)
        assert stem
        assert stem.isascii()
        assert not stem.startswith(".")


# Folders


def test_folder_with_subfolders_and_noise(tmp_path: Path) -> None:
    save_set(tmp_path / "in" / "b", 3)
    scene(100).save(tmp_path / "in" / "top.png")
    scene(200).save(tmp_path / "in" / "b" / "10.webp", quality=95)
    noise = (".DS_Store", "Thumbs.db", "photo_0.xmp", "IMG.AAE", "cameras.json", "README", ".hidden/x.jpg", "._1.jpg")
    for name in noise:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    for name in ("raw.dng", "clip.mp4", "old.bmp", "more.zip"):
        (tmp_path / "in" / name).write_bytes(b"x")
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert [photo.name for photo in index.photos] == [
        "10.webp",
        "photo_0.jpg",
        "photo_1.jpg",
        "photo_2.jpg",
        "top.png",
    ]
    refused = {"clip.mp4": "unsupported_format", "old.bmp": "unsupported_format", "more.zip": "unsupported_format"}
    assert codes(index) == refused | {"raw.dng": "undecodable"}
    messages = {photo.name: photo.message for photo in index.rejected}
    assert "raw" in messages["raw.dng"]
    assert "video" in messages["clip.mp4"]


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    (tmp_path / "book.docx").write_text("no")
    expected = {
        "missing": ReasonCode.SOURCE_NOT_FOUND,
        "empty": ReasonCode.SOURCE_EMPTY,
        "book.docx": ReasonCode.UNSUPPORTED_FORMAT,
    }
    for name, code in expected.items():
        with pytest.raises(DigitizeError) as caught:
            ingest(tmp_path / name, tmp_path / "work")
        assert caught.value.code is code
        assert caught.value.path == str(tmp_path / name)
        assert "HEIC" in caught.value.message


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_source_that_changed_since_it_was_planned_is_not_used(tmp_path: Path, kind: str) -> None:
    paths = save_set(tmp_path / "in", 4)
    source, changing = tmp_path / "in", paths[2]
    if kind == "zip":
        source = changing = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in paths:
                archive.write(path, path.name)
    files = tuple(
        FileRef(path=path.name, sha256=sha256_file(path), bytes=path.stat().st_size)
        for path in (paths if kind == "folder" else [source])
    )
    ref = ArtifactRef(digest=ArtifactRef.content_digest(files), uri=str(source), files=files)
    request = request_for(source).model_copy(update={"inputs": {"photos": ref}})
    assert task.run(request, context_for(request, tmp_path / "work")).facts["photos"] == 4
    changing.write_bytes(changing.read_bytes() + b"\0")
    with pytest.raises(DigitizeError) as caught:
        task.run(request, context_for(request, tmp_path / "work"))
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH
    assert caught.value.retryable


# Archives


def write_zip(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries:
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return path


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def photo_bytes(view: float = 0.0) -> bytes:
    buffer = io.BytesIO()
    scene(view).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_zip_gives_the_same_as_its_folder(tmp_path: Path) -> None:
    paths = save_set(tmp_path / "in", 4)
    entries = [(f"set/{path.name}", path.read_bytes()) for path in reversed(paths)]
    write_zip(tmp_path / "in.zip", ("set/", b""), ("__MACOSX/set/._photo_0.jpg", b"x"), *entries)
    _, from_zip, zip_output = ingest(tmp_path / "in.zip", tmp_path / "work1")
    _, from_folder, folder_output = ingest(tmp_path / "in", tmp_path / "work2")
    assert from_zip == from_folder
    for photo in from_zip.photos:
        assert (zip_output / photo.file).read_bytes() == (folder_output / photo.file).read_bytes()


UNSAFE = {
    "climbs": [("../evil.jpg", b"x")],
    "climbs inside": [("a/../../evil.jpg", b"x")],
    "climbs backwards": [("a\\..\\..\\evil.jpg", b"x")],
    "absolute": [("/etc/evil.jpg", b"x")],
    "drive": [("C:/evil.jpg", b"x")],
    "link": [(entry("evil.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd")],
    "device": [(entry("evil.jpg", stat.S_IFCHR | 0o600), b"")],
    "nested": [("inner/evil.zip", b"PK")],
    "nested tar": [("evil.tar.gz", b"x")],
    "ratio": [("evil.png", bytes(8 << 20))],
}


@pytest.mark.parametrize("kind", sorted(UNSAFE))
def test_unsafe_archives_are_refused_by_entry(tmp_path: Path, kind: str) -> None:
    write_zip(tmp_path / "in.zip", ("good.jpg", b"good"), *UNSAFE[kind])
    with pytest.raises(DigitizeError) as caught, open_archive(tmp_path / "in.zip", LIMITS, tmp_path / "unpacked"):
        pass
    assert caught.value.code is ReasonCode.ARCHIVE_UNSAFE
    assert "evil" in caught.value.message
    assert "evil" in str(caught.value.path)


def test_unsafe_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    write_zip(tmp_path / "in.zip", ("a.jpg", photo_bytes()), ("../evil.jpg", photo_bytes()))
    with pytest.raises(DigitizeError):
        ingest(tmp_path / "in.zip", tmp_path / "deep" / "work")
    assert not list(tmp_path.rglob("*.jpg"))


def test_too_many_and_too_large(tmp_path: Path) -> None:
    write_zip(tmp_path / "many.zip", *((f"{i}.jpg", b"x") for i in range(51)))
    noise = np.random.default_rng(0).bytes(60_000)
    write_zip(tmp_path / "large.zip", *((f"{i}.jpg", noise) for i in range(3)))
    for name, limits in (("many", LIMITS), ("large", ArchiveLimits(50, 150_000))):
        with (
            pytest.raises(DigitizeError) as caught,
            open_archive(tmp_path / f"{name}.zip", limits, tmp_path / "unpacked"),
        ):
            pass
        assert caught.value.code is ReasonCode.ARCHIVE_UNSAFE


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "in.zip", ("secret.jpg", b"x")).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(DigitizeError) as caught, open_archive(tmp_path / "in.zip", LIMITS, tmp_path / "unpacked"):
        pass
    assert caught.value.code is ReasonCode.ARCHIVE_UNSAFE
    assert "secret.jpg" in caught.value.message


def test_lying_size_does_not_write_more_than_it_says(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "in.zip", ("a.jpg", bytes(3_000_000))).read_bytes())
    directory = data.index(b"PK\1\2")
    data[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")
    (tmp_path / "in.zip").write_bytes(data)
    with open_archive(tmp_path / "in.zip", LIMITS, tmp_path / "unpacked") as entries, pytest.raises(DigitizeError):
        entries[0].extract(tmp_path / "out")
    assert (tmp_path / "out").stat().st_size <= 1000


def test_damaged_archives_and_entries(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"this is no archive")
    with pytest.raises(DigitizeError) as caught:
        ingest(tmp_path / "no.zip", tmp_path / "work")
    assert caught.value.code is ReasonCode.UNDECODABLE
    path = write_zip(tmp_path / "in.zip", *((f"{i}.jpg", photo_bytes(12.0 * i)) for i in range(4)))
    data = bytearray(path.read_bytes())
    middle = data.index(b"PK\3\4", 10) + 20_000
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    _, index, _ = ingest(path, tmp_path / "work")
    assert codes(index) == {"1.jpg": "undecodable"}


# Prefixes of a bucket


def test_bucket_prefix_gives_the_same_as_its_folder(tmp_path: Path, s3_bucket: str) -> None:
    from infra.storage import open_store

    paths = save_set(tmp_path / "in", 4)
    store = open_store(f"{s3_bucket}/uploads/pot")
    for path in paths:
        store.put_file(f"raw/{path.name}", path)
    store.put_bytes("raw/.hidden", b"x")
    _, from_bucket, bucket_output = ingest(f"{s3_bucket}/uploads/pot", tmp_path / "work1")
    _, from_folder, folder_output = ingest(tmp_path / "in", tmp_path / "work2")
    assert from_bucket == from_folder
    for photo in from_bucket.photos:
        assert (bucket_output / photo.file).read_bytes() == (folder_output / photo.file).read_bytes()
    assert not list((tmp_path / "work1" / "scratch" / "fetched").iterdir())
    with pytest.raises(DigitizeError) as caught:
        ingest(f"{s3_bucket}/nothing/here", tmp_path / "work3")
    assert caught.value.code is ReasonCode.SOURCE_EMPTY
