"""Exports whose EXIF contradicts the pixels: turned, cropped, resized; against what the camera would have written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.ingest.decode import decode
from tasks.ingest.edited import UPRIGHT
from tests.tasks.ingest.camera_files import exif_block, save_jpeg, thumbnail_of
from tests.tasks.ingest.pictures import ingest

MANY = 10_000_000
WIDTH, HEIGHT = 960, 640
FOCAL = 28 / 43.2666 * math.hypot(WIDTH, HEIGHT)
"""Of the whole photo, in pixels."""
STORED = {6: 8, 8: 6}
"""Orientation -> the transposition that gives what the sensor recorded of an upright picture, where they differ."""


def photo(seed: int = 4) -> Image.Image:
    """A picture with detail of all sizes, as photos have it."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT, WIDTH, 3))
    for cells in (3, 6, 12, 24, 48, 96):
        noise = Image.fromarray(rng.integers(0, 256, (cells * 2 // 3, cells, 3)).astype(np.uint8))
        picture += np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) / cells**0.7
    low, high = picture.min(), picture.max()
    return Image.fromarray(((picture - low) * 255 / (high - low)).astype(np.uint8))


def sensor(upright: Image.Image, orientation: int) -> Image.Image:
    """What a camera records of an upright picture before EXIF turns it."""
    if orientation == 1:
        return upright
    return upright.transpose(UPRIGHT[STORED.get(orientation, orientation)])


def near(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and float(np.abs(np.asarray(a, float) - np.asarray(b.convert("RGB"), float)).mean()) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("helped", ["thumbnail", "size", "both", "bars"])
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_stand_upright_are_not_turned_again(
    orientation: int, helped: str, turned: bool, tmp_path: Path
) -> None:
    """An editor turned the pixels and left orientation, recorded size and thumbnail as they were; or it did not."""
    upright = photo()
    recorded = sensor(upright, orientation)
    size = recorded.size if helped != "thumbnail" else None
    thumbnail = thumbnail_of(recorded, (160, 160) if helped == "bars" else None) if helped != "size" else None
    pixels = upright if turned else recorded
    path = save_jpeg(tmp_path / "a.jpg", pixels, exif_block(size, orientation, thumbnail))
    found = decode(path, "a.jpg", MANY)
    if turned and helped == "size" and orientation in (2, 3, 4):
        return  # half turns leave the size as it is: EXIF is believed
    assert near(found.image, upright)
    changed = turned and orientation != 1
    assert ("is not applied" in found.note) == changed
    assert found.camera.orientation == (1 if changed else orientation)
    assert found.camera.focal_px == pytest.approx(FOCAL, rel=1e-5) and not found.camera.cropped


def test_a_thumbnail_that_stands_otherwise_than_the_picture_proves_nothing(tmp_path: Path) -> None:
    """A camera that writes its thumbnail upright, and says so."""
    upright = photo()
    block = exif_block(None, 3, thumbnail_of(upright), thumbnail_orientation=1)
    found = decode(save_jpeg(tmp_path / "a.jpg", sensor(upright, 3), block), "a.jpg", MANY)
    assert near(found.image, upright) and found.note == ""


@pytest.mark.parametrize(
    ("box", "scale", "size", "thumb", "focal"),
    [
        pytest.param((100, 0, 740, 640), 1.0, True, False, FOCAL, id="square-one-edge-whole"),
        pytest.param((0, 200, 960, 500), 1.0, True, False, FOCAL, id="strip-one-edge-whole"),
        pytest.param((100, 50, 600, 550), 1.0, True, False, None, id="square-inside"),
        pytest.param((100, 0, 740, 640), 0.5, True, False, None, id="square-and-resized"),
        pytest.param((100, 50, 600, 550), 1.0, True, True, FOCAL, id="square-inside-thumbnail"),
        pytest.param((100, 50, 600, 550), 0.6, True, True, 0.6 * FOCAL, id="square-and-resized-thumbnail"),
        pytest.param((120, 60, 720, 460), 1.0, True, True, FOCAL, id="same-shape-thumbnail"),
        pytest.param((120, 60, 720, 460), 1.5, False, True, 1.5 * FOCAL, id="same-shape-enlarged-thumbnail"),
        pytest.param((300, 200, 700, 640), 1.0, False, True, FOCAL, id="upright-part-thumbnail"),
    ],
)
def test_crops_are_cameras_of_their_own(
    box: tuple[int, int, int, int], scale: float, size: bool, thumb: bool, focal: float | None, tmp_path: Path
) -> None:
    whole = photo()
    part = whole.crop(box)
    part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS)
    block = exif_block(whole.size if size else None, 1, thumbnail_of(whole) if thumb else None)
    camera = decode(save_jpeg(tmp_path / "a.jpg", part, block), "a.jpg", MANY).camera
    assert camera.cropped and "cropped" in camera.note
    assert camera.focal_px is None if focal is None else camera.focal_px == pytest.approx(focal, rel=0.03)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        pytest.param(lambda image: image, (WIDTH, HEIGHT), id="unedited"),
        pytest.param(lambda image: image.resize((480, 320)), (WIDTH, HEIGHT), id="resized"),
        pytest.param(lambda image: image.resize((480, 320)), (480, 320), id="resized-and-recorded"),
        pytest.param(
            lambda image: image.point([min(255, round(v * 1.3)) for v in range(256)] * 3), None, id="brighter"
        ),
        pytest.param(lambda image: image.point([round(v**1.4 / 255**0.4) for v in range(256)] * 3), None, id="curve"),
        pytest.param(lambda image: image.convert("L").convert("RGB"), None, id="grey"),
        pytest.param(lambda image: image.crop((4, 4, WIDTH - 4, HEIGHT - 4)), (WIDTH, HEIGHT), id="lens-corrected"),
    ],
)
def test_other_edits_are_no_crops(make: object, size: tuple[int, int] | None, tmp_path: Path) -> None:
    whole = photo()
    edited = make(whole)  # type: ignore[operator]
    path = save_jpeg(tmp_path / "a.jpg", edited, exif_block(size, 1, thumbnail_of(whole)))
    camera = decode(path, "a.jpg", MANY).camera
    assert not camera.cropped and camera.note == ""
    assert camera.focal_px == pytest.approx(FOCAL * edited.width / WIDTH, rel=0.01)


@pytest.mark.parametrize("thumbnail", [b"", b"\xff\xd8 not a picture", b"\x00" * 4000])
def test_a_damaged_thumbnail_counts_as_none(thumbnail: bytes, tmp_path: Path) -> None:
    path = save_jpeg(tmp_path / "a.jpg", photo(), exif_block((WIDTH, HEIGHT), 1, thumbnail))
    assert near(decode(path, "a.jpg", MANY).image, photo())


def test_crops_and_whole_photos_in_one_capture(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(6):
        whole = photo(index)
        pixels = whole.crop((60 * index, 0, 60 * index + 640, 640)) if index in (2, 4) else whole
        save_jpeg(tmp_path / "in" / f"{index}.jpg", pixels, exif_block(whole.size, 1, thumbnail_of(whole)))
    result, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert not index.rejected and len({photo.camera_key for photo in index.photos}) == 3
    assert result.facts["camera_groups"] == ["4 x unknown camera, 960 x 640", "2 x crops, each a camera of its own"]
    (note,) = result.facts["notes"]
    assert note.startswith("2 photos (2.jpg, 4.jpg): cropped from 960 x 640 pixels")
