"""Raw files with known content: a DNG of one uncompressed mosaic, and the first bytes of other cameras' files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

BLACK, WHITE = 256, 16383
NEUTRAL = (0.5, 1.0, 0.625)
"""What the camera records of a neutral surface, relative to green: AsShotNeutral."""
_CALIBRATED = (0.62, 1.0, 0.5)
"""The same under D65, the light that the matrix of the camera is for."""
_SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
"""IEC 61966-2-1, D65."""
_MIXED = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.02, 0.18, 0.8]])
"""A camera whose filters overlap: linear sRGB -> balanced camera colours. Rows add up to one, so grey stays grey."""
SHORT, LONG, RATIONAL, SRATIONAL = 3, 4, 5, 10
Value = tuple[int, bytes | tuple[int, ...]]
"""A field's type and content; rationals as numerator and denominator one after the other."""


def linear(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """sRGB of 8 bits as light from 0 to 1."""
    value = picture / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def mosaic(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """[H, W] what a sensor behind an RGGB filter records of an sRGB picture [H, W, 3] under a tinted lamp."""
    camera = linear(picture) @ _MIXED.T * NEUTRAL
    sensor = np.empty(picture.shape[:2])
    for channel, (row, column) in ((0, (0, 0)), (1, (0, 1)), (1, (1, 0)), (2, (1, 1))):
        sensor[row::2, column::2] = camera[row::2, column::2, channel]
    return np.round(BLACK + sensor * (WHITE - BLACK)).astype(np.uint16)


def ascii_text(text: str) -> Value:
    return 2, text.encode() + b"\0"


def _rationals(values: npt.ArrayLike) -> tuple[int, ...]:
    return tuple(part for value in np.ravel(values) for part in (round(float(value) * 10_000), 10_000))


def tiff(
    fields: Mapping[int, Value], pixels: bytes, exif: Mapping[int, Value] | None = None, directory_first: bool = False
) -> bytes:
    """A little-endian TIFF file with one picture in one strip, and an EXIF directory.

    Args:
        directory_first: whether the picture is the last of the file, as cameras write it.
    """
    before = 8 + (0 if directory_first else len(pixels) + len(pixels) % 2)
    behind = _directory(exif, before) if exif else b""
    wanted: dict[int, Value] = {**fields, 273: (LONG, (8,)), 279: (LONG, (len(pixels),))}
    if exif:
        wanted[34665] = (LONG, (before,))
    first = before + len(behind)
    if directory_first:
        wanted[273] = (LONG, (first + len(_directory(wanted, first)),))
        return b"II*\0" + struct.pack("<I", first) + behind + _directory(wanted, first) + pixels
    pixels += b"\0" * (len(pixels) % 2)
    return b"II*\0" + struct.pack("<I", first) + pixels + behind + _directory(wanted, first)


def _directory(fields: Mapping[int, Value], at: int) -> bytes:
    """A TIFF directory that stands at byte `at` of its file, with its values behind it."""
    widths = {SHORT: "H", LONG: "I", RATIONAL: "I", SRATIONAL: "i"}
    head, tail = struct.pack("<H", len(fields)), b""
    behind = at + 2 + 12 * len(fields) + 4
    for tag, (kind, value) in sorted(fields.items()):
        raw = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{widths[kind]}", *value)
        count = len(value) // 2 if kind in (RATIONAL, SRATIONAL) else len(value)
        if len(raw) > 4:
            head += struct.pack("<HHII", tag, kind, count, behind + len(tail))
            tail += raw + b"\0" * (len(raw) % 2)
        else:
            head += struct.pack("<HHI", tag, kind, count) + raw.ljust(4, b"\0")
    return head + struct.pack("<I", 0) + tail


def dng(
    picture: npt.NDArray[np.uint8],
    orientation: int = 1,
    make: str = "Maker",
    model: str = "M1",
    exif: Mapping[int, Value] | None = None,
    size: tuple[int, int] | None = None,
    directory_first: bool = False,
    neutral: bool = True,
    filters: bool = True,
) -> bytes:
    """A DNG (Adobe's specification 1.4) of the picture [H, W, 3], as it lies on the sensor.

    Args:
        orientation: what turns it upright.
        exif: fields of the EXIF directory.
        size: width and height that the header claims instead of the true ones.
        neutral: whether it records the white balance.
        filters: whether the sensor has colour filters; without them it records the green channel alone.
    """
    height, width = picture.shape[:2]
    claimed = size or (width, height)
    matrix = np.diag(_CALIBRATED) @ _MIXED @ np.linalg.inv(_SRGB_TO_XYZ)
    fields: dict[int, Value] = {
        254: (LONG, (0,)),
        256: (LONG, (claimed[0],)),
        257: (LONG, (claimed[1],)),
        258: (SHORT, (16,)),
        259: (SHORT, (1,)),
        262: (SHORT, (32803,)),
        271: ascii_text(make),
        272: ascii_text(model),
        274: (SHORT, (orientation,)),
        277: (SHORT, (1,)),
        278: (LONG, (claimed[1],)),
        284: (SHORT, (1,)),
        33421: (SHORT, (2, 2)),
        33422: (1, bytes((0, 1, 1, 2))),
        50706: (1, bytes((1, 4, 0, 0))),
        50707: (1, bytes((1, 1, 0, 0))),
        50708: ascii_text(f"{make} {model}"),
        50710: (1, bytes((0, 1, 2))),
        50711: (SHORT, (1,)),
        50714: (SHORT, (BLACK,)),
        50717: (SHORT, (WHITE,)),
        50721: (SRATIONAL, _rationals(matrix)),
        50728: (RATIONAL, _rationals(NEUTRAL)),
        50778: (SHORT, (21,)),
    }
    if not neutral:
        del fields[50728]
    if not filters:
        fields = {tag: value for tag, value in fields.items() if tag not in (33421, 33422, 50710, 50711, 50721, 50728)}
        fields[262] = (SHORT, (34892,))
        grey = np.round(BLACK + linear(picture[..., 1]) * (WHITE - BLACK))
        return tiff(fields, grey.astype("<u2").tobytes(), exif, directory_first)
    return tiff(fields, mosaic(picture).astype("<u2").tobytes(), exif, directory_first)


def save_dng(path: Path, picture: npt.NDArray[np.uint8], **more: object) -> Path:
    """Write a DNG; see `dng`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dng(picture, **more))  # type: ignore[arg-type]
    return path
