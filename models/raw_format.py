"""Whose raw file a file is, by its content: the signature, or what its TIFF directories say."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator
from typing import BinaryIO

EXTRA = "asset-digitizer[raw]"
"""What brings the reader of raw files."""
INSTALL = f"Install the reader of raw files: pip install '{EXTRA}'; or develop them to JPEG, TIFF or HEIC."

_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW", "RAF of Fujifilm"),
    (0, b"IIU\0", "RW2 of Panasonic"),
    (0, b"IIRO", "ORF of Olympus"),
    (0, b"IIRS", "ORF of Olympus"),
    (0, b"MMOR", "ORF of Olympus"),
    (4, b"ftypcrx ", "CR3 of Canon"),
    (8, b"CR\x02\0", "CR2 of Canon"),
)
_BY_MAKE = (("NIKON", "NEF of Nikon"), ("SONY", "ARW of Sony"), ("PENTAX", "PEF of Pentax"), ("SAMSUNG", "SRW"))
_MAKE, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION = 271, 262, 330, 50706
_SENSOR = frozenset({32803, 34892})
"""Photometric interpretations of TIFF/EP and DNG: a colour filter array, and linear values of a sensor."""
_SHORT = 3
_MOST_ENTRIES, _MOST_DIRECTORIES = 512, 16


def can_develop() -> bool:
    """Whether the reader of raw files is installed."""
    return importlib.util.find_spec("rawpy") is not None


def raw_format(file: BinaryIO) -> str:
    """`DNG`, `CR2 of Canon`, ... of a file that holds a sensor's values; empty for any other.

    A TIFF that a camera or its maker's program wrote is no raw file unless one of its pictures is a sensor's. Where
    only the beginning of a file is at hand, a maker's name and further directories have to do.

    Args:
        file: seekable; its position afterwards is anywhere.
    """
    file.seek(0)
    head = file.read(16)
    for at, signature, name in _SIGNATURES:
        if head[at:].startswith(signature):
            return name
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return ""
    order = "<" if head[:2] == b"II" else ">"
    fields = dict(_fields(file, order, struct.unpack(f"{order}I", head[4:8])[0])) if len(head) >= 8 else {}
    if _DNG_VERSION in fields:
        return "DNG"
    make = _text(file, fields.get(_MAKE, b""), order).upper()
    name = next((each for start, each in _BY_MAKE if make.startswith(start)), "")
    inner = [dict(_fields(file, order, at)) for at in _numbers(file, fields.get(_SUB_DIRECTORIES, b""), order)]
    if any(_is_sensor(each, order) for each in (fields, *inner)):
        return name or "TIFF/EP"
    return name if any(not each for each in inner) else ""


def _fields(file: BinaryIO, order: str, at: int) -> Iterator[tuple[int, bytes]]:
    """The 12 bytes of each field of the directory at byte `at`, by tag; none where the file does not reach it."""
    file.seek(at)
    count = file.read(2)
    if len(count) < 2 or not 0 < struct.unpack(f"{order}H", count)[0] <= _MOST_ENTRIES:
        return
    entries = file.read(12 * struct.unpack(f"{order}H", count)[0])
    for start in range(0, len(entries) - 11, 12):
        yield struct.unpack_from(f"{order}H", entries, start)[0], entries[start : start + 12]


def _is_sensor(fields: dict[int, bytes], order: str) -> bool:
    entry = fields.get(_PHOTOMETRIC)
    return entry is not None and struct.unpack_from(f"{order}H", entry, 8)[0] in _SENSOR


def _text(file: BinaryIO, entry: bytes, order: str) -> str:
    """The beginning of a field of text."""
    if not entry:
        return ""
    count, value = struct.unpack(f"{order}I", entry[4:8])[0], entry[8:12]
    if count > 4:
        file.seek(struct.unpack(f"{order}I", value)[0])
        value = file.read(min(count, 64))
    return value[:count].split(b"\0")[0].decode("latin-1").strip()


def _numbers(file: BinaryIO, entry: bytes, order: str) -> tuple[int, ...]:
    """The first values of a field of whole numbers."""
    if not entry:
        return ()
    kind, count = struct.unpack(f"{order}HI", entry[2:8])
    letter, width = ("H", 2) if kind == _SHORT else ("I", 4)
    count = min(count, _MOST_DIRECTORIES)
    values = entry[8:12]
    if count * width > 4:
        file.seek(struct.unpack(f"{order}I", values)[0])
        values = file.read(count * width)
    return struct.unpack(f"{order}{len(values) // width}{letter}", values[: len(values) // width * width])[:count]
