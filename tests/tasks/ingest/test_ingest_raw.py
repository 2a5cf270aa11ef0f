"""Raw files: a DNG whose mosaic is computed from known colours; other cameras' files by their first bytes."""

from __future__ import annotations

import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import DigitizeError, ReasonCode
from models.media import count_photos, what_is
from models.photos import RejectedPhoto
from models.raw_format import raw_format
from tasks.ingest import raw
from tasks.ingest.decode import decode
from tasks.ingest.methods import photos
from tasks.ingest.options import IngestOptions
from tasks.ingest.staging import PhotoTask, stage_photo
from tests.tasks.ingest.pictures import codes, ingest, save_set, scene
from tests.tasks.ingest.raws import LONG, RATIONAL, SHORT, ascii_text, dng, save_dng, tiff
from tests.tasks.ingest.test_ingest_decode import STORED, four_corners

MANY = 10_000_000
READERS = ("tasks.ingest.raw", "tasks.ingest.sources", "tasks.ingest.options", "models.media", "flows.plan.sources")
EXIF = {0x920A: (RATIONAL, (35, 1)), 0xA405: (SHORT, (52,))}


def patches() -> np.ndarray:
    """[320, 480, 3] flat squares of 80 pixels."""
    colours = np.random.default_rng(5).integers(25, 231, (4, 6, 3)).astype(np.uint8)
    return np.kron(colours, np.ones((80, 80, 1), np.uint8))


def without_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (*READERS, "flows.plan.discover"):
        monkeypatch.setattr(f"{module}.can_develop", lambda: False)


def test_flat_patches_have_their_colours(tmp_path: Path) -> None:
    truth = patches()
    decoded = decode(save_dng(tmp_path / "a.dng", truth), "a.dng", MANY)
    assert decoded.image.size == (480, 320) and decoded.image.mode == "RGB" and decoded.alpha is None
    found = np.asarray(decoded.image).astype(int)
    middles = (slice(40, None, 80), slice(40, None, 80))
    assert np.abs(found[middles] - truth[middles]).max() <= 1
    assert decoded.note == ""


@pytest.mark.parametrize("level", [60, 235])
def test_nothing_is_scaled_to_what_a_picture_holds(level: int, tmp_path: Path) -> None:
    """The same exposure gives the same colour in every photo of a set."""
    truth = np.full((64, 96, 3), level, np.uint8)
    found = np.asarray(decode(save_dng(tmp_path / "a.dng", truth), "a.dng", MANY).image).astype(int)
    assert np.abs(found[8:-8, 8:-8] - level).max() <= 1


def test_a_raw_file_without_a_white_balance_says_so(tmp_path: Path) -> None:
    path = save_dng(tmp_path / "a.dng", patches(), neutral=False)
    assert "names no white balance" in decode(path, "a.dng", MANY).note


def test_a_sensor_without_colour_filters_gives_grey(tmp_path: Path) -> None:
    truth = patches()
    decoded = decode(save_dng(tmp_path / "a.dng", truth, filters=False), "a.dng", MANY)
    assert decoded.image.size == (480, 320) and decoded.image.mode == "RGB"
    found = np.asarray(decoded.image).astype(int)
    assert np.abs(found - truth[..., 1:2].astype(int)).max() <= 1
    assert decoded.note == ""


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_every_orientation_becomes_upright(orientation: int, tmp_path: Path) -> None:
    upright = four_corners()
    stored = np.ascontiguousarray(STORED[orientation](upright))
    image = decode(save_dng(tmp_path / "a.dng", stored, orientation=orientation), "a.dng", MANY).image
    assert image.size == (96, 64)
    assert np.abs(np.asarray(image).astype(int) - upright).mean() < 4


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("left", [0.9, 0.5, 0.02])
def test_a_file_that_ends_too_early_is_refused_by_name(left: float, first: bool, tmp_path: Path) -> None:
    data = dng(patches(), directory_first=first)
    path = tmp_path / "secret place.dng"
    path.write_bytes(data[: int(left * len(data))])
    with pytest.raises(DigitizeError) as caught:
        decode(path, "IMG_1.dng", MANY)
    assert caught.value.code is ReasonCode.UNDECODABLE and caught.value.path == "IMG_1.dng"
    assert "a whole raw file" in caught.value.message and "secret" not in caught.value.message


def test_the_header_is_believed_before_any_pixel_is_read(tmp_path: Path) -> None:
    path = save_dng(tmp_path / "a.dng", patches(), size=(30_000, 30_000))
    with pytest.raises(DigitizeError, match="30000 x 30000") as caught:
        decode(path, "a.dng", MANY)
    assert caught.value.code is ReasonCode.IMAGE_BOMB


def test_content_says_what_a_file_is(tmp_path: Path) -> None:
    hidden = decode(save_dng(tmp_path / "a.tif", patches()), "a.tif", MANY)
    assert hidden.image.size == (480, 320) and hidden.note == "a raw photo (DNG), developed"
    scene().save(tmp_path / "b.dng", "JPEG")
    assert decode(tmp_path / "b.dng", "b.dng", MANY).note == "no raw photo but a picture of format JPEG"
    (tmp_path / "c.dng").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    with pytest.raises(DigitizeError, match=r"expected a whole raw file, found: .*a 7z archive"):
        decode(tmp_path / "c.dng", "c.dng", MANY)


def camera_tiff(make: str, **fields: object) -> bytes:
    return tiff({256: (LONG, (8,)), 271: ascii_text(make)} | {int(k[1:]): v for k, v in fields.items()}, bytes(64))  # type: ignore[dict-item]


def with_inner(make: str, photometric: int) -> bytes:
    """A TIFF whose second picture stands in a directory of its own, as in a NEF."""
    inner = struct.pack("<HHHIII", 1, 262, SHORT, 1, photometric, 0)
    return tiff({271: ascii_text(make), 330: (LONG, (8,))}, inner)


SIGNATURES = {
    "a raw photo (CR2 of Canon)": b"II*\0\x10\0\0\0CR\x02\0" + bytes(99),
    "a raw photo (CR3 of Canon)": b"\0\0\0\x18ftypcrx \0\0\0\x01" + bytes(99),
    "a raw photo (RAF of Fujifilm)": b"FUJIFILMCCD-RAW 0201" + bytes(99),
    "a raw photo (RW2 of Panasonic)": b"IIU\0" + bytes(99),
    "a raw photo (ORF of Olympus)": b"IIRO" + bytes(99),
    "a raw photo (NEF of Nikon)": with_inner("NIKON CORPORATION", 32803),
    "a raw photo (ARW of Sony)": with_inner("SONY", 32803),
    "a raw photo (DNG)": dng(four_corners()),
}
NO_RAW = {
    "a TIFF that Nikon's program exported": camera_tiff("NIKON CORPORATION"),
    "one with a preview": with_inner("NIKON CORPORATION", 2),
    "a phone's HEIC": b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(99),
    "a TIFF that ends in its header": b"II*\0\x08",
    "a directory in nowhere": b"MM\0*\xff\xff\xff\xf0" + bytes(20),
}


@pytest.mark.parametrize("words", SIGNATURES)
def test_signatures_of_cameras(words: str) -> None:
    assert what_is(SIGNATURES[words]) == words


@pytest.mark.parametrize("name", NO_RAW)
def test_what_only_looks_like_a_raw_file(name: str) -> None:
    assert raw_format(io.BytesIO(NO_RAW[name])) == ""


@pytest.mark.parametrize("name", ["NEF of Nikon", "CR2 of Canon", "CR3 of Canon", "RAF of Fujifilm", "ARW of Sony"])
def test_other_cameras_files_go_the_same_way(name: str, tmp_path: Path) -> None:
    """Headers without a picture: they reach LibRaw, and are refused as raw files of that kind."""
    path = tmp_path / "a.raw"
    path.write_bytes(SIGNATURES[f"a raw photo ({name})"])
    with pytest.raises(DigitizeError) as caught:
        decode(path, "IMG_1.JPG", MANY)
    assert caught.value.code is ReasonCode.UNDECODABLE and f"a whole raw file ({name})" in caught.value.message


def test_cameras_of_every_container(tmp_path: Path) -> None:
    fields = {271: ascii_text("Canon"), 272: ascii_text("EOS R5")}
    box = lambda kind, data: struct.pack(">I", len(data) + 8) + kind + data  # noqa: E731
    exif = tiff({0x920A: (RATIONAL, (50, 1)), 0xA405: (SHORT, (50,))}, b"")
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    inner = canon + box(b"CNCV", b"x" * 30) + box(b"CMT1", tiff(fields, b"")) + box(b"CMT2", exif)
    cr3 = box(b"ftyp", b"crx \0\0\0\x01") + box(b"moov", box(b"mvhd", bytes(9)) + box(b"uuid", inner))
    preview = io.BytesIO()
    tags = Image.Exif()
    tags[271], tags[272] = "Canon", "EOS R5"
    tags.get_ifd(0x8769).update({0x920A: 50.0, 0xA405: 50})
    Image.new("RGB", (60, 40)).save(preview, "JPEG", exif=tags)
    raf = b"FUJIFILMCCD-RAW ".ljust(84, b"\0") + struct.pack(">II", 92, len(preview.getvalue())) + preview.getvalue()
    orf = b"IIRO" + tiff(fields, b"", {0x920A: (RATIONAL, (50, 1)), 0xA405: (SHORT, (50,))})[4:]
    for name, data in (("a.cr3", cr3), ("a.raf", raf), ("a.orf", orf)):
        (tmp_path / name).write_bytes(data)
        camera = raw.raw_camera(tmp_path / name, (6000, 4000))
        assert camera.device == "Canon|EOS R5|50" and camera.orientation == 1
        assert camera.focal_px == pytest.approx(50 / 36 * 6000, rel=2e-3)


def test_damaged_metadata_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.cr3").write_bytes(b"\0\0\0\x10ftypcrx \0\0\0\x01\0\0\xff\xffmoov\0\0\0\x00uuid")
    assert raw.raw_camera(tmp_path / "a.cr3", (60, 40)).device == "||"


def views(folder: Path, count: int = 4, **more: object) -> list[Path]:
    return [save_dng(folder / f"IMG_{k}.DNG", np.asarray(scene(12.0 * k)), **more) for k in range(count)]


def test_a_folder_of_raw_files_is_a_capture(tmp_path: Path) -> None:
    views(tmp_path / "in", exif=EXIF)
    views(tmp_path / "in/other", 2, exif=EXIF, model="M2", orientation=6)
    for path in (tmp_path / "in/other").iterdir():
        path.rename(path.with_name(f"B{path.name}"))
    result, index, output = ingest(tmp_path / "in", tmp_path / "work", reject_duplicates=False)
    assert len(index.photos) == 6 and result.facts["cameras"] == 2
    assert {photo.camera_key for photo in index.photos} == {"Maker|M1|35|640x480", "Maker|M2|35|480x640"}
    assert index.photos[0].focal_px == pytest.approx(52 / np.hypot(36, 24) * 800, rel=1e-3)
    with Image.open(output / "images/IMG_1.jpg") as stored:
        found, truth = (np.asarray(each.resize((80, 60), Image.Resampling.BOX)) for each in (stored, scene(12.0)))
        assert np.abs(found.astype(int) - truth).mean() < 6


def test_a_raw_file_beside_the_cameras_picture_is_the_same_photo(tmp_path: Path) -> None:
    save_set(tmp_path / "in", 4)
    for k, path in enumerate(sorted((tmp_path / "in").iterdir())):
        save_dng(tmp_path / "in" / f"{path.stem.upper()}.DNG", np.asarray(scene(12.0 * k)))
    save_dng(tmp_path / "in" / "photo_9.dng", np.asarray(scene(200.0)))
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert [photo.name for photo in index.photos] == [*(f"photo_{k}.jpg" for k in range(4)), "photo_9.dng"]
    assert [photo.file for photo in index.photos][:2] == ["images/photo_0.jpg", "images/photo_1.jpg"]
    assert codes(index) == {f"PHOTO_{k}.DNG": "duplicate" for k in range(4)}
    assert index.rejected[0].message == "the raw file of photo_0.jpg"
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work", prefer_raw=True)
    assert index.photos[0].name == "PHOTO_0.DNG" and len(index.photos) == 5
    assert index.rejected[0].message == "the camera's picture of PHOTO_0.DNG"


def test_masks_belong_to_the_photo_of_a_pair_that_is_used(tmp_path: Path) -> None:
    for k, path in enumerate(save_set(tmp_path / "in", 3)):
        save_dng(path.with_suffix(".dng"), np.asarray(scene(12.0 * k)))
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = Image.new("L", (640, 480))
        mask.paste(255, (100, 100, 300, 300))
        mask.save(tmp_path / "masks" / f"{path.stem}.png")
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work", masks=tmp_path / "masks")
    assert [(photo.name, photo.mask) for photo in index.photos] == [
        (f"photo_{k}.jpg", f"masks/photo_{k}.png") for k in range(3)
    ]


def test_without_the_reader_raw_files_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_set(tmp_path / "in", 4)
    shutil.copy(save_dng(tmp_path / "far.dng", patches()), tmp_path / "in" / "IMG_9.dng")
    without_reader(monkeypatch)
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert len(index.photos) == 4
    assert codes(index) == {"IMG_9.dng": "missing_dependency"}
    disguised = shutil.copy(tmp_path / "far.dng", tmp_path / "IMG_8.tif")  # known by its content alone
    one = PhotoTask(name="IMG_8.tif", stem="a", path=disguised, folder=tmp_path, options=IngestOptions())
    found = stage_photo(one)
    assert isinstance(found, RejectedPhoto) and found.code == "missing_dependency"
    (named,) = (photo.message for photo in index.rejected if photo.name == "IMG_9.dng")
    assert "pip install 'asset-digitizer[raw]'" in named


def test_a_set_that_lacks_the_reader_fails_and_is_not_rejected_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views(tmp_path / "in", 3)
    without_reader(monkeypatch)
    with pytest.raises(DigitizeError, match=r"3 need rawpy \(IMG_0.DNG") as caught:
        ingest(tmp_path / "in", tmp_path / "work")
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY and "asset-digitizer[raw]" in caught.value.hint
    with pytest.raises(ValueError, match="expected rawpy"):
        photos.Options(prefer_raw=True)


def test_options_that_nobody_chose_change_no_key() -> None:
    assert "prefer_raw" not in photos.Options().model_dump(mode="json")
    assert photos.Options(prefer_raw=True).model_dump(mode="json")["prefer_raw"] is True


def test_a_pair_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a/1.jpg", "a/1.cr2", "a/2.CR2", "b/2.jpg", "a/notes.txt"]
    assert count_photos(names) == 3
    monkeypatch.setattr("models.media.can_develop", lambda: False)
    assert count_photos(names) == 2
