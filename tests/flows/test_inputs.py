"""Captures as they come: what is read, what is passed over with a word, what is refused with the fix."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import yaml
from PIL import Image

from flows.plan.batch_plan import plan_batch
from flows.plan.discover import find_captures
from flows.plan.validate import check_spec
from flows.status.intake import passed_over
from infra.storage import open_store
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.listing import summary
from models.media import Kind, kind_of
from models.spec_yaml import load_spec
from tests.tasks.ingest.pictures import codes, ingest, save_set, scene

Make = Callable[[Path], object]


def batch(folder: Path, photos: str = "pot", **keys: Any) -> Path:
    """A specification in a folder whose one asset has these photos."""
    asset = {"id": "pot", "photos": photos, "scale": {"kind": "none"}} | keys.pop("asset", {})
    spec = {"version": 1, "name": "b", "publish": [{"to": "published"}], "assets": [asset]} | keys
    path = folder / "batch.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return path


def planned(spec: Path) -> list[str]:
    """The files of the asset's photos that the plan knows."""
    (asset,) = plan_batch(load_spec(spec)).assets
    return [file.path for file in asset.sources["photos"].files]


def store(folder: Path) -> None:
    (folder / "status").mkdir(parents=True)
    photo(folder / "work/pot/ingest/k/attempts/a/images/IMG_1.jpg")


def target(folder: Path) -> None:
    photo(folder / "assets/pot/v1/preview.jpg")
    (folder / "assets/pot/latest.json").write_text("{}")


WRITTEN: dict[str, Make] = {
    "the store among the photos": lambda root: store(root / "pot/store"),
    "the store, deep among them": lambda root: store(root / "pot/a/b/store"),
    "another specification's store": lambda root: store(root / "pot/of the others"),
    "a target among the photos": lambda root: target(root / "pot/published"),
    "another specification's target": lambda root: target(root / "pot/web"),
    "a folder of masks": lambda root: photo(root / "pot/masks/IMG_1.png"),
    "masks in capital letters": lambda root: photo(root / "pot/Masks/IMG_1.png"),
    "macOS's copy of an archive": lambda root: photo(root / "pot/__MACOSX/IMG_1.jpg"),
    "a NAS's thumbnails": lambda root: photo(root / "pot/@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_M.jpg"),
    "a recycle bin": lambda root: photo(root / "pot/$RECYCLE.BIN/IMG_9.jpg"),
    "a NAS's recycle bin": lambda root: photo(root / "pot/#recycle/IMG_9.jpg"),
    "a hidden folder": lambda root: photo(root / "pot/.thumbnails/IMG_1.jpg"),
    "a resource fork": lambda root: (root / "pot/._IMG_1.jpg").write_bytes(b"x"),
    "Windows' thumbnails": lambda root: (root / "pot/Thumbs.db").write_bytes(b"x"),
    "a sidecar": lambda root: (root / "pot/IMG_1.xmp").write_bytes(b"x"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_runs_and_tools_write_is_no_photo(name: str, tmp_path: Path) -> None:
    """It is no part of the capture, of its key, and nobody counts it; what is no system file is named."""
    photos = [photo(tmp_path / f"pot/IMG_{number}.jpg") for number in (1, 2)]
    spec = batch(tmp_path, store="pot/store")
    before = plan_batch(load_spec(spec)).assets
    WRITTEN[name](tmp_path)
    assert planned(spec) == [path.name for path in photos]
    assert plan_batch(load_spec(spec)).assets == before
    (asset,) = load_spec(spec).spec.assets
    assert passed_over(load_spec(spec), asset)


@pytest.mark.parametrize("place", ["masks here", "sub/m"])
def test_given_masks_among_the_photos_are_no_photos(place: str, tmp_path: Path) -> None:
    photo(tmp_path / "pot/IMG_1.jpg")
    photo(tmp_path / f"pot/{place}/IMG_1.png")
    spec = batch(tmp_path, asset={"masks": {"path": f"pot/{place}"}})
    assert planned(spec) == ["IMG_1.jpg"]


def latin(root: Path) -> None:
    with open(os.path.join(os.fsencode(root), b"pot/M\xfcnze.jpg"), "wb") as file:  # noqa: PTH118, PTH123
        file.write(photo(root / "other/x.jpg").read_bytes())


def sock(root: Path) -> None:
    folder = Path.cwd()
    os.chdir(root / "pot")  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("live.jpg")
    finally:
        os.chdir(folder)


def link(root: Path, name: str, to: str) -> None:
    (root / "pot" / name).symlink_to(root / to)


FOUND: dict[str, tuple[Make, int, str]] = {
    # what is there besides two photos, how many files are read, what is said
    "a folder behind a link": (lambda root: (photo(root / "far/IMG_9.jpg"), link(root, "ring2", "far")), 3, ""),
    "a photo behind a link": (lambda root: (photo(root / "far/x.jpg"), link(root, "IMG_9.jpg", "far/x.jpg")), 3, ""),
    "a link to nothing": (lambda root: link(root, "IMG_9.jpg", "nowhere.jpg"), 2, "IMG_9.jpg: a link to nothing"),
    "a link in a circle": (lambda root: link(root, "again", "pot"), 2, "again/: a link to a folder that is read"),
    "a link to itself": (lambda root: link(root, "loop", "pot/loop"), 2, "loop: a link to nothing"),
    "a pipe": (lambda root: os.mkfifo(root / "pot/pipe.jpg"), 2, "pipe.jpg: a pipe"),
    "a socket": (sock, 2, "live.jpg: a socket"),
    "a name in an old encoding": (latin, 3, ""),
    "a name with a line break": (lambda root: photo(root / "pot/a\nb.jpg"), 3, ""),
    "a name in another script": (lambda root: photo(root / "pot/ваза №1.jpg"), 3, ""),
    "capital suffixes": (lambda root: photo(root / "pot/IMG_9.JPG"), 3, ""),
    "Nikon's names": (lambda root: photo(root / "pot/_DSC0001.JPG"), 3, ""),
    "a folder of a ring": (lambda root: photo(root / "pot/ring 2/IMG_1.jpg"), 3, ""),
    "masks": (lambda root: photo(root / "pot/mask/IMG_1.png"), 2, "mask/: masks: name their folder"),
    "hidden files": (lambda root: photo(root / "pot/.a.jpg"), 2, "1 hidden, system or sidecar file"),
}


@pytest.mark.parametrize("name", FOUND)
def test_links_special_files_and_names(name: str, tmp_path: Path) -> None:
    make, count, words = FOUND[name]
    for number in (1, 2):
        photo(tmp_path / f"pot/IMG_{number}.jpg")
    make(tmp_path)
    spec = batch(tmp_path)
    files = planned(spec)
    assert len(files) == count and canonical_json({"files": files})
    (asset,) = load_spec(spec).spec.assets
    lines = passed_over(load_spec(spec), asset)
    assert any(line.startswith(words) for line in lines) if words else lines == []


def test_every_name_is_read_by_ingest(tmp_path: Path) -> None:
    save_set(tmp_path / "pot", 4)
    (tmp_path / "pot/photo_0.jpg").rename(tmp_path / "pot/a\nb.jpg")
    os.rename(os.fsencode(tmp_path / "pot/photo_1.jpg"), os.fsencode(tmp_path / "pot") + b"/M\xfcnze.jpg")  # noqa: PTH104
    _, index, _ = ingest(tmp_path / "pot", tmp_path / "work")
    assert {each.name for each in index.photos} == {"a_b.jpg", "M_xfcnze.jpg", "photo_2.jpg", "photo_3.jpg"}


LAYOUTS: dict[str, tuple[list[str], dict[str, str], str]] = {
    # files, assets with their photos, what is said
    "a folder an object": (["cup/1.jpg", "jug/1.jpg"], {"cup": "cup", "jug": "jug"}, ""),
    "photos in the folder itself": (["1.jpg", "2.jpg"], {"here": "."}, ""),
    "the usual subfolder": (["cup/images/1.jpg"], {"cup": "cup/images"}, ""),
    "any subfolder": (["cup/JPG/full/1.jpg"], {"cup": "cup/JPG/full"}, ""),
    "two rings": (["cup/ring1/1.jpg", "cup/ring2/1.jpg"], {"cup": "cup"}, ""),
    "Sony's HEIF": (["cup/1.HIF"], {"cup": "cup"}, ""),
    "Nikon's names": (["cup/_DSC1.JPG"], {"cup": "cup"}, ""),
    "an archive": (["cup.zip", "jug.tar.gz"], {"cup": "cup.zip", "jug": "jug.tar.gz"}, ""),
    "an archive in a folder": (["cup/export.zip"], {"cup": "cup/export.zip"}, ""),
    "a video": (["walk.MTS"], {"walk": "walk.MTS"}, ""),
    "another archive": (["cup/1.jpg", "old.7z"], {"cup": "cup"}, "old.7z: archive of a kind that is not read"),
    "raw photos": (["cup/1.jpg", "raw/1.cr3"], {"cup": "cup", "raw": "raw"}, ""),
    "raw photos beside the camera's pictures": (["cup/1.jpg", "cup/1.cr3"], {"cup": "cup"}, ""),
    "papers": (["cup/1.jpg", "docs/a.docx"], {"cup": "cup"}, "docs/: no photos in it"),
    "system folders": (["cup/1.jpg", "@eaDir/1.jpg", "__MACOSX/cup/1.jpg"], {"cup": "cup"}, "2 hidden, system"),
    "a store and a target": (
        ["cup/1.jpg", "s/work/a/1.jpg", "s/status/b.json", "p/assets/a/latest.json", "p/assets/a/v1/1.jpg"],
        {"cup": "cup"},
        "s/: a store of digitize",
    ),
    "another script": (["花瓶/1.jpg", "茶碗/1.jpg"], {"asset-e9396280": "花瓶", "asset-a3194435": "茶碗"}, ""),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_init_finds_captures_in_any_layout(name: str, tmp_path: Path) -> None:
    files, expected, words = LAYOUTS[name]
    root = tmp_path / "here"
    for each in files:
        path = root / each
        if kind_of(each) is Kind.PHOTO and not each.lower().endswith("hif"):
            photo(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    found = find_captures(root)
    assert {each.id: each.photos for each in found.captures} == expected
    lines = summary(found.passed)
    assert any(line.startswith(words) for line in lines) if words else lines == []


ABOUT: dict[str, list[str]] = {
    "3 photos": ["1.jpg", "2.jpg", "3.jpg"],
    "2 photos, raw": ["1.cr2", "2.CR2"],
    "3 photos, 1 raw": ["1.jpg", "2.jpg", "3.nef"],
    "2 photos, 2 with a raw file beside it": ["1.jpg", "1.nef", "2.jpg", "2.nef"],
}


@pytest.mark.parametrize("about", ABOUT)
def test_init_says_what_of_a_capture_is_raw(about: str, tmp_path: Path) -> None:
    for name in ABOUT[about]:
        photo(tmp_path / "cup" / "x.png").rename(tmp_path / "cup" / name)
    (found,) = find_captures(tmp_path).captures
    assert found.about == about


def test_a_missing_reader_of_raw_files_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1.cr2", "2.cr2"):
        photo(tmp_path / "pot" / "x.png").rename(tmp_path / "pot" / name)
    spec = batch(tmp_path)
    assert check_spec(spec).mistakes == () and planned(spec) == ["1.cr2", "2.cr2"]
    for module in ("flows.plan.sources", "flows.plan.discover"):
        monkeypatch.setattr(f"{module}.can_develop", lambda: False)
    (mistake,) = check_spec(spec).mistakes
    assert mistake.code is ReasonCode.MISSING_DEPENDENCY and "2 photos are such (1.cr2)" in mistake.message
    error = plan_batch(load_spec(spec)).unusable["pot"]
    assert error.code is ReasonCode.MISSING_DEPENDENCY and "pip install 'asset-digitizer[raw]'" in error.hint
    (found,) = find_captures(tmp_path / "pot").captures
    assert found.about == "2 photos, raw (needs asset-digitizer[raw])"
    photo(tmp_path / "pot" / "3.jpg")
    assert check_spec(spec).mistakes == () and planned(spec) == ["1.cr2", "2.cr2", "3.jpg"]


def test_init_proposes_masks_that_lie_beside_or_among_the_photos(tmp_path: Path) -> None:
    for place in ("cup/masks", "jug/masks"):
        photo(tmp_path / place / "1.png")
    photo(tmp_path / "cup/1.jpg")
    photo(tmp_path / "jug/images/1.jpg")
    photo(tmp_path / "pot/masks/other.png")
    photo(tmp_path / "pot/1.jpg")
    assert {each.id: each.masks for each in find_captures(tmp_path).captures} == {
        **{"cup": "cup/masks", "jug": "jug/masks"},
        "pot": None,
    }


MISTAKES: dict[str, tuple[str, str]] = {
    "a date": ("id: 2024-05-01", "YAML reads as the date 2024-05-01: put it in quotes"),
    "an octal number": ("id: 0123", "YAML reads as the number 83: put it in quotes"),
    "a truth value": ("id: no", "YAML reads as the truth value false"),
    "a decimal": ("id: 1.5", "YAML reads as the number 1.5"),
    "a list": ("photos: [a, b]", "expected one place, found a list of 2"),
    "another scheme": ("photos: gs://bucket/set", "found the scheme gs://"),
    "a web address": ("photos: https://example.org/a.zip", "found the scheme https://"),
    "a scheme in capitals": ("photos: S3://bucket/set", "found the scheme S3://"),
    "no bucket": ("photos: s3:///set", "without a bucket"),
    "one photo": ("photos: pot/1.jpg", "expected a folder of photos, found one photo"),
    "a backslash": ('photos: "C:\\Users\\new"', "in double quotes a backslash begins an escape"),
    "a link to nothing": ("photos: gone", "found a link to nothing"),
    "a decimal comma": ("scale: {kind: known_distance, distance_m: 0,12}", "a decimal comma reads as two"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_validate_says_what_to_write(name: str, tmp_path: Path) -> None:
    line, words = MISTAKES[name]
    photo(tmp_path / "pot/1.jpg")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    keys = {"id": "id: pot", "photos": "photos: pot", "scale": "scale: {kind: none}"} | {line.split(":")[0]: line}
    text = "version: 1\nname: b\nassets:\n  - " + "\n    ".join(keys.values()) + "\n"
    (tmp_path / "batch.yaml").write_text(text)
    (mistake,) = check_spec(tmp_path / "batch.yaml").mistakes
    assert words in mistake.message
    assert mistake.line is not None and line in text.splitlines()[mistake.line - 1]


def bytes_of(view: float) -> bytes:
    buffer = io.BytesIO()
    scene(view).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def tar(path: Path, mode: str, *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for number in range(4):
            info, data = tarfile.TarInfo(f"set/photo_{number}.jpg"), bytes_of(12.0 * number)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.txz", "w:xz")],
)
def test_tar_archives_are_read(name: str, mode: str, tmp_path: Path) -> None:
    _, index, _ = ingest(tar(tmp_path / name, mode), tmp_path / "work")
    assert [each.name for each in index.photos] == [f"photo_{number}.jpg" for number in range(4)]


def entry(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "../../etc/passwd"
    return info


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (entry("../out.jpg"), "climbs out"),
        (entry("/etc/out.jpg"), "an absolute path"),
        (entry("C:\\out.jpg"), "an absolute path"),
        (entry("a.jpg", tarfile.SYMTYPE), "a link"),
        (entry("a.jpg", tarfile.LNKTYPE), "a link"),
        (entry("a.jpg", tarfile.FIFOTYPE), "a special file"),
        (entry("a.jpg", tarfile.CHRTYPE), "a special file"),
        (entry("more.zip"), "an archive inside"),
        (entry("more.tar.gz"), "an archive inside"),
    ],
)
def test_unsafe_tar_archives_are_refused_by_entry(info: tarfile.TarInfo, words: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", "w", info)
    with pytest.raises(DigitizeError, match=words) as caught:
        ingest(path, tmp_path / "work")
    assert caught.value.code == "archive_unsafe" and info.name in caught.value.message
    assert not list(tmp_path.rglob("out.jpg"))


NO_ARCHIVES: dict[str, tuple[str, bytes, str]] = {
    "7z as zip": ("a.zip", b"7z\xbc\xaf\x27\x1c" + bytes(99), "found a 7z archive"),
    "RAR as zip": ("a.zip", b"Rar!\x1a\x07\x00" + bytes(99), "found a RAR archive"),
    "a photo as zip": ("a.zip", b"\xff\xd8\xff\xe0" + bytes(99), "found a JPEG photo"),
    "a web page as zip": ("a.zip", b"<!DOCTYPE html><p>sign in", "found a web page"),
    "nothing as zip": ("a.zip", b"", "found an empty file"),
    "zip cut off": ("a.zip", b"PK\x03\x04" + bytes(99), "found a zip archive"),
    "7z": ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "found a 7z archive"),
    "nothing as tar": ("a.tar", b"", "found an empty file"),
    "gzip cut off": ("a.tgz", b"\x1f\x8b\x08\x00" + bytes(20), "found a gzip file"),
    "a paper": ("a.docx", b"PK\x03\x04" + bytes(99), "found a zip archive"),
}


@pytest.mark.parametrize("name", NO_ARCHIVES)
def test_what_is_no_archive_is_told_for_what_it_is(name: str, tmp_path: Path) -> None:
    file, data, words = NO_ARCHIVES[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(DigitizeError, match=words) as caught:
        ingest(tmp_path / file, tmp_path / "work")
    assert caught.value.path == str(tmp_path / file) and caught.value.code in ("undecodable", "unsupported_format")


KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test-secret"}


def test_what_others_put_into_buckets_is_read(tmp_path: Path, s3_bucket: str, s3_endpoint: str) -> None:
    """An archive by its key; keys with `//`; markers of folders are none of the photos."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(4):
            archive.writestr(f"photo_{number}.jpg", bytes_of(12.0 * number))
    bucket = open_store(f"{s3_bucket}/sets")
    bucket.put_bytes("pot.zip", buffer.getvalue())
    client, name = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1", **KEYS), s3_bucket[5:]
    client.put_object(Bucket=name, Key="sets/cup/", Body=b"")
    client.put_object(Bucket=name, Key="sets/cup/ring/", Body=b"")
    for number in range(4):
        client.put_object(Bucket=name, Key=f"sets/cup//photo_{number}.jpg", Body=bytes_of(12.0 * number))
    for place in ("pot.zip", "cup"):
        spec = batch(tmp_path, photos=f"{s3_bucket}/sets/{place}")
        (asset,) = plan_batch(load_spec(spec)).assets
        assert len(asset.sources["photos"].files) == (1 if place == "pot.zip" else 4)
        _, index, _ = ingest_ref(asset.sources["photos"], tmp_path / "work")
        assert len(index.photos) == 4 and codes(index) == {}


def ingest_ref(ref: Any, work: Path) -> Any:
    from models.photos import PhotoIndex
    from tasks.ingest import task
    from tests.tasks.ingest.pictures import context_for, request_for

    request = request_for(ref.uri).model_copy(update={"inputs": {"photos": ref}})
    context = context_for(request, work)
    result = task.run(request, context)
    return result, PhotoIndex.read(context.output / "photos.json"), context.output


def labels(values: tuple[int, int], dtype: Any) -> Image.Image:
    picture = np.full((480, 640), values[0], dtype)
    picture[:, :320] = values[1]
    return Image.fromarray(picture)


@pytest.mark.parametrize(
    "picture",
    [
        labels((0, 255), np.uint8),
        labels((0, 1), np.uint8),
        labels((0, 1), np.uint16),
        labels((0, 255), np.uint16),
        labels((0, 65535), np.uint16),
        labels((0, 255), np.uint8).convert("1"),
        labels((0, 255), np.uint8).convert("RGB"),
        labels((0, 255), np.uint8).convert("P"),
    ],
    ids=["0-255", "0-1", "0-1 in 16 bits", "0-255 in 16 bits", "0-65535", "1 bit", "RGB", "palette"],
)
def test_masks_of_any_range_are_read(picture: Image.Image, tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    (tmp_path / "m").mkdir()
    picture.save(tmp_path / "m/photo_1.png")
    _, index, output = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "m")
    (file,) = (each.mask for each in index.photos if each.mask)
    assert np.array_equal(np.asarray(Image.open(output / file)), np.asarray(labels((0, 255), np.uint8)))


def test_the_largest_of_several_pages_is_used_and_said(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    small, large = scene(90.0, (160, 120)), scene(90.0)
    small.save(tmp_path / "in/pages.tif", save_all=True, append_images=[large])
    result, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    (pages,) = (each for each in index.photos if each.name == "pages.tif")
    assert (pages.width, pages.height) == (640, 480)
    assert result.facts["notes"] == ["pages.tif: picture 2 of 2, the largest, is used"]
