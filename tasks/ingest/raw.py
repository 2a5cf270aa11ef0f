"""Raw files of cameras -> upright 8-bit sRGB pictures, developed by LibRaw through rawpy (the extra `raw`).

Every photo of a set is developed alike: the camera's own white balance, no automatic brightness, no white level taken
from the picture, highlights clipped. Two photos of one exposure so show a surface in one colour.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from models.errors import DigitizeError, ReasonCode
from models.raw_format import INSTALL, can_develop, raw_format
from tasks.ingest.exif import EXIF_IFD, CameraFacts, camera_of, read_camera
from tasks.ingest.refusals import image_bomb, undecodable

if TYPE_CHECKING:
    import rawpy

_SRGB_CURVE = (2.4, 12.92)
"""Power and slope of the linear part, IEC 61966-2-1."""
_RAF_PREVIEW = 84
"""Where a RAF says at which byte its JPEG begins, and how long it is."""
_CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
"""The box of a CR3 that holds its metadata."""
_MOST_METADATA = 16 << 20
_NO_METADATA = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, OverflowError)


@dataclass(frozen=True)
class Developed:
    """One raw photo."""

    image: Image.Image
    """Upright, RGB, 8-bit sRGB."""
    camera: CameraFacts
    """`orientation` is already applied."""
    note: str


def format_of(path: Path) -> str:
    """Which raw format a file has, by its content; empty for other files and for what cannot be read."""
    try:
        with path.open("rb") as file:
            return raw_format(file)
    except OSError:
        return ""


def develop(path: Path, name: str, max_pixels: int) -> Developed:
    """Develop a raw file.

    Args:
        name: what errors call the file.
        max_pixels: larger pictures are refused by their header, before any pixel is read.

    Raises DigitizeError(missing_dependency, image_bomb or undecodable).
    """
    if not can_develop():
        message = f"expected rawpy, which reads raw files ({format_of(path)}), found none"
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, INSTALL, path=name)
    import rawpy

    try:
        with rawpy.imread(str(path)) as raw:
            width, height = raw.sizes.raw_width, raw.sizes.raw_height
            if width * height > max_pixels:
                raise image_bomb(name, max_pixels, f"{width} x {height}")
            note = _note(raw)
            pixels = raw.postprocess(
                use_camera_wb=True,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=_SRGB_CURVE,
                output_bps=16,
                no_auto_bright=True,
                adjust_maximum_thr=0.0,
                highlight_mode=rawpy.HighlightMode.Clip,
            )
    except (rawpy.LibRawError, rawpy.NotSupportedError, ValueError, MemoryError) as error:
        raise undecodable(name, _words(error, path, name), f"a whole raw file ({format_of(path)})") from error
    eight = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    # a sensor without colour filters gives one channel
    image = Image.fromarray(np.broadcast_to(eight, (*eight.shape[:2], 3)).copy())
    return Developed(image, raw_camera(path, image.size), note)


def _note(raw: rawpy.RawPy) -> str:
    balanced = raw.num_colors == 1 or all(value > 0 for value in raw.camera_whitebalance[:3])
    return "" if balanced else "the raw file names no white balance: daylight is assumed"


def _words(error: Exception, path: Path, name: str) -> str:
    """LibRaw's message, which is bytes, without where this machine keeps the file."""
    first = error.args[0] if error.args else str(error)
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    return text.replace(str(path), name) or type(error).__name__


def raw_camera(path: Path, size: tuple[int, int]) -> CameraFacts:
    """The camera that a raw file names, for the upright picture of `size` (width, height).

    DNG, CR2, NEF, ARW, PEF and SRW are TIFF files; ORF and RW2 are but for a signature of their own; a CR3 holds two
    such directories in boxes, a RAF a JPEG with all of them. Damaged metadata counts as none.
    """
    try:
        with path.open("rb") as file:
            if raw_format(file).startswith("RAF"):
                return replace(_camera_of_preview(file, size), orientation=1)
            tags = _tags(file)
    except _NO_METADATA:
        return CameraFacts()
    return replace(camera_of(tags, *size), orientation=1)


def _tags(file: BinaryIO) -> dict[int, object]:
    """The fields of the first directory and of the EXIF directory."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp":
        found: dict[int, object] = {}
        for kind, data in _canon_boxes(file):
            if kind in (b"CMT1", b"CMT2"):
                found |= dict(_exif(io.BytesIO(data)))
        return found
    if head[:4] in (b"IIU\0", b"IIRO", b"IIRS", b"MMOR"):
        file.seek(0)
        plain = b"II*\0" if head[:2] == b"II" else b"MM\0*"
        exif = _exif(io.BytesIO(plain + file.read(_MOST_METADATA)[4:]))
    else:
        exif = _exif(file)
    return dict(exif) | dict(exif.get_ifd(EXIF_IFD))


def _exif(file: BinaryIO | io.BytesIO) -> Image.Exif:
    file.seek(0)
    exif = Image.Exif()
    exif.load_from_fp(file)
    return exif


def _camera_of_preview(file: BinaryIO, size: tuple[int, int]) -> CameraFacts:
    """What the JPEG in a RAF names. Its size is not the photo's, but in proportion to it."""
    file.seek(_RAF_PREVIEW)
    start, length = struct.unpack(">II", file.read(8))
    file.seek(start)
    with Image.open(io.BytesIO(file.read(min(length, _MOST_METADATA))), formats=("JPEG",)) as preview:
        camera = read_camera(preview)
        scale = max(size) / max(preview.size)
    return replace(camera, focal_px=None if camera.focal_px is None else camera.focal_px * scale)


def _canon_boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The boxes that hold a CR3's metadata: of `uuid` in `moov` (ISO/IEC 14496-12)."""
    file.seek(0)
    while len(header := file.read(8)) == 8:
        size = struct.unpack(">I", header[:4])[0]
        if header[4:] == b"moov":
            moov = file.read(min(max(size - 8, 0), _MOST_METADATA))
            for kind, data in _boxes(moov):
                if kind == b"uuid" and data.startswith(_CANON):
                    yield from _boxes(data[len(_CANON) :])
            return
        if size < 8:
            return
        file.seek(size - 8, io.SEEK_CUR)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        if size < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size
