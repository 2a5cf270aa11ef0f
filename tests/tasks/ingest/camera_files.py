"""JPEG files as cameras write them: EXIF with the recorded size, the orientation and a thumbnail."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from PIL import Image

LONG, SHORT, RATIONAL = 4, 3, 5


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """The picture as JPEG."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=quality)
    return data.getvalue()


def thumbnail_of(image: Image.Image, bars: tuple[int, int] | None = None) -> bytes:
    """A thumbnail with a long edge of 160 pixels, or in the middle of a black picture of the size `bars`."""
    small = image.convert("RGB")
    small.thumbnail((160, 160))
    if bars is not None:
        small = image.convert("RGB")
        small.thumbnail(bars)
        filled = Image.new("RGB", bars)
        filled.paste(small, ((bars[0] - small.width) // 2, (bars[1] - small.height) // 2))
        small = filled
    return jpeg(small, 80)


def exif_block(
    recorded: tuple[int, int] | None,
    orientation: int = 1,
    thumbnail: bytes | None = None,
    film_mm: int = 28,
    thumbnail_orientation: int | None = None,
) -> bytes:
    """EXIF 2.32, big-endian: IFD0, the EXIF directory, and IFD1 with the thumbnail."""
    fields = [(0xA405, SHORT, film_mm)]
    if recorded is not None:
        fields += [(0xA002, LONG, recorded[0]), (0xA003, LONG, recorded[1])]
    exif_at = 8 + 2 + 12 * 2 + 4
    first_at = exif_at + 2 + 12 * len(fields) + 4
    zeroth = _directory([(0x0112, SHORT, orientation), (0x8769, LONG, exif_at)], first_at if thumbnail else 0)
    body = zeroth + _directory(fields, 0)
    if thumbnail:
        count = 2 + (thumbnail_orientation is not None)
        data_at = first_at + 2 + 12 * count + 4
        first = [(0x0201, LONG, data_at), (0x0202, LONG, len(thumbnail))]
        if thumbnail_orientation is not None:
            first.append((0x0112, SHORT, thumbnail_orientation))
        body += _directory(first, 0) + thumbnail
    return b"Exif\0\0MM\0*" + struct.pack(">I", 8) + body


def _directory(fields: list[tuple[int, int, int]], following: int) -> bytes:
    data = struct.pack(">H", len(fields))
    for tag, kind, value in sorted(fields):
        data += struct.pack(">HHI", tag, kind, 1)
        data += struct.pack(">HH", value, 0) if kind == SHORT else struct.pack(">I", value)
    return data + struct.pack(">I", following)


def save_jpeg(path: Path, image: Image.Image, exif: bytes) -> Path:
    """Write the pixels with an EXIF block, whatever that says of them."""
    image.save(path, "JPEG", quality=92, exif=exif)
    return path
