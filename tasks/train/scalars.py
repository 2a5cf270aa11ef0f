"""Scalars as TensorBoard reads them: an event file, written without TensorFlow.

The file is a sequence of TFRecords (length, masked CRC-32C of the length, data, masked CRC-32C of the data), each with
an `Event` protocol buffer: wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), summary = 5 with
value = 1 of tag = 1 (string) and simple_value = 2 (float).

Times are the steps, taken as seconds: equal runs give equal bytes.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

FILE_NAME = "events.out.tfevents.0.train"
"""TensorBoard looks for `tfevents` in the name."""
POLYNOMIAL = 0x82F63B78
"""Castagnoli's, reflected."""


def write_scalars(path: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """Write rows of scalars: each holds `step` and values by tag."""
    events = [_double(1, 0.0) + _text(3, b"brain.Event:2")]
    for row in rows:
        step = int(row["step"])
        values = b"".join(
            _text(1, _text(1, tag.encode()) + _single(2, value)) for tag, value in row.items() if tag != "step"
        )
        events.append(_double(1, float(step)) + _key(2, 0) + _varint(step) + _text(5, values))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(_record, events)))


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) checksum."""
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)  # noqa: PLW2901
        table.append(byte)
    return tuple(table)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _single(field: int, value: float) -> bytes:
    return _key(field, 5) + struct.pack("<f", value)


def _text(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value
