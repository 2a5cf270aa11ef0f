"""Decoding against pictures whose upright pixels are known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from models.errors import DigitizeError, ReasonCode
from tasks.ingest.decode import decode, fitted
from tests.tasks.ingest.pictures import png, scene

MANY = 10_000_000
CORNERS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def four_corners(width: int = 96, height: int = 64) -> np.ndarray:
    """[H, W, 3] upright: red upper left, green upper right, blue lower left, white lower right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = CORNERS["red"]
    picture[: height // 2, width // 2 :] = CORNERS["green"]
    picture[height // 2 :, : width // 2] = CORNERS["blue"]
    picture[height // 2 :, width // 2 :] = CORNERS["white"]
    return picture


# How a camera held that way stores the upright picture, from the definition in the EXIF standard
# ("the 0th row is at the visual ... , the 0th column at the visual ..."), in numpy rather than Pillow.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", sorted(STORED))
def test_all_orientations_become_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = four_corners()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    stored.save(path, exif=exif, **options)
    image = decode(path, "photo", MANY).image
    assert image.size == (96, 64)
    assert np.abs(np.asarray(image).astype(int) - upright).mean() < 2


def save_heic(path: Path, orientation: int) -> None:
    """The four corners as a camera held that way stores them, with the orientation in EXIF alone."""
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](four_corners())))
    stored.save(path, quality=95, exif=exif)
    data = path.read_bytes()
    assert b"irot" not in data
    assert b"imir" not in data


def add_heif_property(data: bytes, name: bytes, value: int) -> bytes:
    """The file with one more essential property, `irot` or `imir`, of its first item (ISO/IEC 23008-12)."""
    grown = bytearray(data)

    def grow(box: bytes, by: int) -> int:
        start = grown.index(box) - 4
        size = int.from_bytes(grown[start : start + 4])
        grown[start : start + 4] = (size + by).to_bytes(4)
        return start

    end_of_properties = (start := grow(b"ipco", 9)) + int.from_bytes(grown[start : start + 4]) - 9
    grown[end_of_properties:end_of_properties] = (9).to_bytes(4) + name + bytes([value])
    entry = grow(b"ipma", 1) + 16
    count = grown[entry + 2]
    grown[entry + 2] = count + 1
    grown.insert(entry + 3 + count, 0x80 | (count + 1))
    grow(b"iprp", 10)
    grow(b"meta", 10)
    place = grow(b"iloc", 0) + 12
    assert grown[place : place + 2] == b"\x44\x40"
    for _ in range(int.from_bytes(grown[place + 2 : place + 4])):
        base = int.from_bytes(grown[place + 8 : place + 12])
        grown[place + 8 : place + 12] = (base + 10).to_bytes(4)
        place += 18
    return bytes(grown)


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_heic_with_orientation_in_exif_alone(tmp_path: Path, orientation: int) -> None:
    save_heic(tmp_path / "photo.heic", orientation)
    image = decode(tmp_path / "photo.heic", "photo", MANY).image
    assert image.size == (96, 64)
    assert np.abs(np.asarray(image).astype(int) - four_corners()).mean() < 4


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(3, 2), (6, 3), (8, 1)])
def test_heic_with_orientation_in_container_and_exif(tmp_path: Path, orientation: int, quarter_turns: int) -> None:
    """As phones write it: the container turns the picture, and EXIF must not turn it again."""
    path = tmp_path / "photo.heic"
    save_heic(path, orientation)
    path.write_bytes(add_heif_property(path.read_bytes(), b"irot", quarter_turns))
    image = decode(path, "photo", MANY).image
    assert image.size == (96, 64)
    assert np.abs(np.asarray(image).astype(int) - four_corners()).mean() < 4


def test_png_of_16_bits_grey_keeps_its_levels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    (tmp_path / "a.png").write_bytes(png(64, 64, 16, 0, ramp.astype(">u2").tobytes()))
    image = decode(tmp_path / "a.png", "a", MANY).image
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[:, :, 1] - ramp / 257.0).max() <= 0.51


def test_png_of_16_bits_with_alpha(tmp_path: Path) -> None:
    rgba = np.zeros((32, 32, 4), np.uint16)
    rgba[..., 0], rgba[:16, :, 3] = 40000, 65535
    (tmp_path / "a.png").write_bytes(png(32, 32, 16, 6, rgba.astype(">u2").tobytes()))
    decoded = decode(tmp_path / "a.png", "a", MANY)
    assert np.abs(np.asarray(decoded.image)[:16, :, 0].astype(int) - 40000 / 257).max() <= 1
    assert decoded.alpha is not None
    assert np.array_equal(np.asarray(decoded.alpha), (rgba[..., 3] // 257).astype(np.uint8))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_of_16_bits_grey(tmp_path: Path, compression: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "a.tif", compression=compression)
    image = decode(tmp_path / "a.tif", "a", MANY).image
    assert np.abs(np.asarray(image)[:, :, 0] - ramp / 257.0).max() <= 0.51


def test_tiff_of_16_bits_rgb(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    rgb = np.stack([*np.meshgrid(np.arange(64) * 1000, np.arange(64) * 500), np.full((64, 64), 30000)], -1)
    tifffile.imwrite(tmp_path / "a.tif", rgb.astype(np.uint16), photometric="rgb")
    image = decode(tmp_path / "a.tif", "a", MANY).image
    assert np.abs(np.asarray(image) - rgb / 257.0).max() <= 1.01


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([200, 10, 20, 30, 40, 250])
    image.paste(1, (0, 0, 20, 40))
    image.save(tmp_path / "a.png", transparency=0)
    decoded = decode(tmp_path / "a.png", "a", MANY)
    assert decoded.image.getpixel((5, 5)) == (30, 40, 250)
    assert decoded.alpha is not None
    assert (decoded.alpha.getpixel((5, 5)), decoded.alpha.getpixel((30, 5))) == (255, 0)


def test_opaque_alpha_is_no_mask(tmp_path: Path) -> None:
    scene().convert("RGBA").save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", "a", MANY).alpha is None


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = decode(tmp_path / "a.jpg", "a", MANY).image.getpixel((20, 20))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 15


def swapped_profile() -> bytes:
    """sRGB with the colorants of red and blue exchanged: a conversion that really happens is easy to see."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * index
        if profile[entry : entry + 4] in (b"rXYZ", b"bXYZ"):
            first = b"b" if profile[entry] == ord("r") else b"r"
            profile[entry : entry + 1] = first
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "abcd".encode("utf-16-be")).replace(b"sRGB", b"abcd")


def test_colour_profile_is_applied(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (220, 60, 20)).save(tmp_path / "a.png", icc_profile=swapped_profile())
    image = decode(tmp_path / "a.png", "a", MANY).image
    assert np.abs(np.array(image.getpixel((9, 9))) - (20, 60, 220)).max() <= 6
    assert image.info == {}


def test_broken_colour_profile_is_ignored(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (220, 60, 20)).save(tmp_path / "a.png", icc_profile=b"nonsense")
    assert decode(tmp_path / "a.png", "a", MANY).image.getpixel((9, 9)) == (220, 60, 20)


@pytest.mark.parametrize("side", [4000, 12_000, 60_000])
def test_image_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png(side, side, 8, 2, b""))
    with pytest.raises(DigitizeError) as caught:
        decode(tmp_path / "bomb.png", "bomb.png", MANY)
    assert caught.value.code is ReasonCode.IMAGE_BOMB
    assert caught.value.path == "bomb.png"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "heic"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_undecodable(tmp_path: Path, suffix: str, share: float) -> None:
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    scene().save(buffer, {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}.get(suffix, suffix.upper()))
    data = buffer.getvalue()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DigitizeError) as caught:
        decode(path, "a", MANY)
    assert caught.value.code is ReasonCode.UNDECODABLE
    assert str(tmp_path) not in caught.value.message


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    scene().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert decode(tmp_path / "a.jpg", "a", MANY).image.size == (640, 480)
    scene().save(tmp_path / "b.bmp")
    (tmp_path / "b.bmp").rename(tmp_path / "b.jpg")
    with pytest.raises(DigitizeError):
        decode(tmp_path / "b.jpg", "b", MANY)


def test_float_pictures_are_unsupported(tmp_path: Path) -> None:
    Image.fromarray(np.ones((40, 40), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DigitizeError) as caught:
        decode(tmp_path / "a.tif", "a", MANY)
    assert caught.value.code is ReasonCode.UNSUPPORTED_FORMAT


def test_fitted_reduces_and_never_enlarges() -> None:
    image = scene(size=(900, 600))
    assert fitted(image, 300).size == (300, 200)
    assert fitted(image, 2000) is image
    mean = np.asarray(image).mean((0, 1)) - np.asarray(fitted(image, 300)).mean((0, 1))
    assert np.abs(mean).max() < 0.5
