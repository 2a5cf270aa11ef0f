"""Event files read back by a reader of its own, and estimates of the time that is left."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.train.pace import BLOCK, Pace
from tasks.train.scalars import FILE_NAME, crc32c, write_scalars


def slow_crc32c(data: bytes) -> int:
    """Bit by bit over the unreflected polynomial, written independently."""

    def reflect(value: int, bits: int) -> int:
        return int(f"{value:0{bits}b}"[::-1], 2)

    register = 0xFFFFFFFF
    for byte in data:
        register ^= reflect(byte, 8) << 24
        for _ in range(8):
            register = ((register << 1) ^ (0x1EDC6F41 if register >> 31 else 0)) & 0xFFFFFFFF
    return reflect(register, 32) ^ 0xFFFFFFFF


def records(data: bytes) -> Iterator[bytes]:
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for body, stored in ((data[:8], data[8:12]), (data[12 : 12 + length], data[12 + length : 16 + length])):
            crc = slow_crc32c(body)
            masked = ((crc >> 15 | crc << 17) & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF
            assert struct.unpack("<I", stored) == (masked,)
        yield data[12 : 12 + length]
        data = data[16 + length :]


def fields(data: bytes) -> dict[int, list[Any]]:
    """A protocol buffer's fields by number: raw values."""
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            value: Any = varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            value = data[at : at + size]
            at += size
        found.setdefault(number, []).append(value)
    return found


def test_scalars_are_read_back(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 0.5}, {"step": 300, "loss": 0.25, "psnr": 21.75}, {"step": 2**33, "loss": 1e-9}]
    path = tmp_path / "scalars" / FILE_NAME
    write_scalars(path, rows)
    first, *others = [fields(record) for record in records(path.read_bytes())]
    assert first[3] == [b"brain.Event:2"]
    found = []
    for event in others:
        row: dict[str, float] = {"step": event[2][0]}
        assert struct.unpack("<d", event[1][0]) == (float(event[2][0]),)
        for value in fields(event[5][0])[1]:
            parts = fields(value)
            row[parts[1][0].decode()] = struct.unpack("<f", parts[2][0])[0]
        found.append(row)
    assert found == [pytest.approx(row) for row in rows]


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_the_rest_takes_as_long_as_recent_steps_did() -> None:
    pace = Pace()
    assert pace.remaining(100) is None
    for number in range(10 * BLOCK):
        pace.add(0.1 if number // BLOCK % 2 else 0.2)
    low, high = pace.remaining(100) or (0.0, 0.0)
    assert low == pytest.approx(10.0) and high == pytest.approx(20.0)
    for _ in range(1000):
        pace.add(0.3)
    assert pace.remaining(10) == pytest.approx((3.0, 3.0))
