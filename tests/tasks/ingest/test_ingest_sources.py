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
from PIL import Image

from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef, FileRef
from tasks.ingest import task
from tasks.ingest.archive import ArchiveLimits, open_archive
from tasks.ingest.sources import natural_key, unique_names, unique_stems
from tasks.ingest.video import VideoLimits, extract_frames
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


# Videos


def write_video(path: Path, frames: list[np.ndarray], rate: int = 10) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 20_000_000
        for picture in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def blurred(picture: np.ndarray, width: int = 9) -> np.ndarray:
    return np.mean([np.roll(picture, shift, 1) for shift in range(width)], 0).astype(np.uint8)


def video_frames(count: int, sharp: set[int]) -> list[np.ndarray]:
    """Views that slide by 4 pixels a frame; all but the `sharp` ones are smeared."""
    frames = [np.asarray(scene(4.0 * index)) for index in range(count)]
    return [frame if index in sharp else blurred(frame) for index, frame in enumerate(frames)]


def test_sharpest_frame_of_each_window(tmp_path: Path) -> None:
    sharp = {3, 14, 27, 30}
    path = write_video(tmp_path / "clip.mp4", video_frames(40, sharp))
    frames = extract_frames(path, tmp_path / "frames", VideoLimits(4, 30.0, 10_000_000), lambda: None)
    assert [frame.name for frame in frames] == [f"frame_{index:05d}.png" for index in sorted(sharp)]
    stored = np.asarray(Image.open(frames[1])).astype(int)
    errors = [np.abs(stored - np.asarray(scene(4.0 * index)).astype(int)).mean() for index in (13, 14, 15)]
    assert errors[1] < 0.4 * min(errors[0], errors[2])


def test_rate_and_number_of_frames_bound_the_photos(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", video_frames(20, set(range(20))))
    for limits, expected in (
        (VideoLimits(100, 2.0, 10_000_000), 4),
        (VideoLimits(100, 100.0, 10_000_000), 20),
        (VideoLimits(7, 100.0, 10_000_000), 7),
    ):
        assert len(extract_frames(path, tmp_path / "frames", limits, lambda: None)) == expected


@pytest.mark.parametrize("quarter_turns_clockwise", [0, 1, 2, 3])
def test_rotation_of_phones_is_applied(tmp_path: Path, quarter_turns_clockwise: int) -> None:
    """The matrix of the track's header (ISO/IEC 14496-12) turns the stored frames for display."""
    upright = np.zeros((160, 240, 3), np.uint8)
    upright[:80, :120], upright[:80, 120:], upright[80:, :120] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    stored = np.ascontiguousarray(np.rot90(upright, quarter_turns_clockwise))
    path = write_video(tmp_path / "clip.mp4", [stored] * 4)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    a, b, c, d = [(one, 0, 0, one), (0, one, -one, 0), (-one, 0, 0, -one), (0, -one, one, 0)][quarter_turns_clockwise]
    for place, value in ((0, a), (4, b), (12, c), (16, d)):
        data[matrix + place : matrix + place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    frames = extract_frames(path, tmp_path / "frames", VideoLimits(1, 30.0, 10_000_000), lambda: None)
    picture = np.asarray(Image.open(frames[0])).astype(int)
    assert picture.shape == upright.shape
    assert np.abs(picture - upright).mean() < 10


def test_video_through_the_stage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [np.asarray(scene(12.0 * index)) for index in range(20)])
    result, index, _ = ingest(path, tmp_path / "work", video_photos_per_second=3.0)
    assert result.facts["photos"] == 6
    assert [photo.name for photo in index.photos] == sorted(photo.name for photo in index.photos)


def test_broken_videos(tmp_path: Path) -> None:
    data = write_video(tmp_path / "clip.mp4", video_frames(10, set())).read_bytes()
    for name, content in (
        ("none.mp4", b""),
        ("text.mp4", b"no video at all" * 50),
        ("cut.mp4", data[: len(data) // 2]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DigitizeError) as caught:
            ingest(tmp_path / name, tmp_path / "work")
        assert caught.value.code in (ReasonCode.UNDECODABLE, ReasonCode.SOURCE_EMPTY)
        assert caught.value.path == str(tmp_path / name)
    with pytest.raises(DigitizeError) as caught:
        extract_frames(tmp_path / "clip.mp4", tmp_path / "frames", VideoLimits(4, 3.0, 100_000), lambda: None)
    assert caught.value.code is ReasonCode.IMAGE_BOMB


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


def test_the_picture_of_a_cover_is_not_the_video(tmp_path: Path) -> None:
    """Of several streams the one with the most pixels is read; a title in Latin-1 does not matter."""
    import av

    path = tmp_path / "cover.mkv"
    with av.open(str(path), "w") as container:
        sizes = ((160, 120), (480, 360), (320, 240))
        streams = []
        for width, height in sizes:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        container.metadata["title"] = "Munze1"
        for number in range(10):
            for stream, size in zip(streams, sizes, strict=True):
                frame = av.VideoFrame.from_ndarray(np.asarray(scene(12.0 * number).resize(size)), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"Munze1", b"M\xfcnze1"))
    frames = extract_frames(path, tmp_path / "frames", VideoLimits(5, 10.0, 1_000_000), lambda: None)
    assert frames
    for frame in frames:
        with Image.open(frame) as stored:
            assert stored.size == (480, 360)
