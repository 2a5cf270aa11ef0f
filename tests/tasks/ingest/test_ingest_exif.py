"""Focal lengths worked out by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tasks.ingest.decode import decode
from tasks.ingest.exif import focal_in_pixels

FOCAL, FILM, RESOLUTION, UNIT, PIXEL_X, PIXEL_Y = 0x920A, 0xA405, 0xA20E, 0xA210, 0xA002, 0xA003


def test_35_mm_equivalent_goes_by_the_diagonal() -> None:
    # 3:2, where the diagonal and the 36 mm edge agree: 28 mm -> 28 / 36 of the width.
    assert focal_in_pixels({FILM: 28}, 6000, 4000) == pytest.approx(28 / 36 * 6000)
    # 4:3, a phone's 26 mm: the sensor's diagonal of 5000 pixels is 43.267 mm of film.
    assert focal_in_pixels({FILM: 26}, 3000, 4000) == pytest.approx(26 / 43.2666 * 5000, rel=1e-5)


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 25.4), (3, 10.0), (4, 1.0)])
def test_focal_plane_resolution(unit: int, per_unit: float) -> None:
    # A sensor 24 mm wide with 6000 pixels and a 50 mm lens: 12500 pixels, a quarter of it after resizing to 1500.
    tags = {FOCAL: IFDRational(50, 1), RESOLUTION: 6000 / (24.0 / per_unit), UNIT: unit, PIXEL_X: 6000, PIXEL_Y: 4000}
    assert focal_in_pixels(tags, 6000, 4000) == pytest.approx(12500)
    assert focal_in_pixels(tags, 1000, 1500) == pytest.approx(3125)


def test_crops_have_no_known_focal_length() -> None:
    assert focal_in_pixels({FILM: 28, PIXEL_X: 6000, PIXEL_Y: 4000}, 3000, 3000) is None
    assert focal_in_pixels({FILM: 28, PIXEL_X: 4000, PIXEL_Y: 6000}, 1500, 1000) is not None


def test_implausible_and_missing_values() -> None:
    assert focal_in_pixels({}, 600, 400) is None
    assert focal_in_pixels({FOCAL: 4.2}, 600, 400) is None
    assert focal_in_pixels({FILM: 0, FOCAL: IFDRational(1, 0), RESOLUTION: 3}, 600, 400) is None
    assert focal_in_pixels({FILM: 5000}, 600, 400) is None


@given(
    st.dictionaries(
        st.sampled_from([FOCAL, FILM, RESOLUTION, UNIT, PIXEL_X, PIXEL_Y]),
        st.one_of(st.none(), st.text(), st.floats(), st.integers(), st.binary(), st.tuples(st.integers())),
    )
)
def test_no_tags_can_break_it(tags: dict[int, object]) -> None:
    focal = focal_in_pixels(tags, 600, 400)
    assert focal is None or 0 < focal < 600 * 31


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
def test_camera_facts_of_a_file(tmp_path: Path, suffix: str) -> None:
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker|One\n", "M 1"
    exif.get_ifd(0x8769).update({FOCAL: IFDRational(17, 4), FILM: 26})
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (400, 300)).save(path, exif=exif)
    camera = decode(path, "a", 10_000_000).camera
    assert camera.device == "MakerOne|M 1|4.25"
    assert camera.focal_px == pytest.approx(26 / 43.2666 * 500, rel=1e-5)


def grey_tiff(width: int, height: int) -> bytes:
    """A grey TIFF with an EXIF folder, written by hand: Pillow's own writer leaves that folder out."""
    texts = b"Maker One\0M 1\0\0" + struct.pack("<II", 17, 4)
    exif_at = 8 + len(texts)
    exif = struct.pack("<H", 2)
    exif += struct.pack("<HHII", FOCAL, 5, 1, 8 + 15) + struct.pack("<HHIHH", FILM, 3, 1, 26, 0) + bytes(4)
    ifd_at = exif_at + len(exif)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (271, 2, 10, 8),
        (272, 2, 4, int.from_bytes(b"M 1\0", "little")),
        (273, 4, 1, 0),
        (274, 3, 1, 6),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, width * height),
        (34665, 4, 1, exif_at),
    ]
    pixels_at = ifd_at + 2 + 12 * len(tags) + 4
    ifd = struct.pack("<H", len(tags))
    for tag, kind, count, value in tags:
        ifd += struct.pack("<HHII", tag, kind, count, pixels_at if tag == 273 else value)
    return struct.pack("<2sHI", b"II", 42, ifd_at) + texts + exif + ifd + bytes(4) + bytes(width * height)


def test_camera_facts_of_a_tiff(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(grey_tiff(400, 300))
    decoded = decode(tmp_path / "a.tif", "a", 10_000_000)
    assert decoded.image.size == (300, 400)
    assert decoded.camera.device == "Maker One|M 1|4.25"
    assert decoded.camera.focal_px == pytest.approx(26 / 43.2666 * 500, rel=1e-5)
