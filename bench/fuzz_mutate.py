"""Mutations of files: of bytes, of the length fields of containers, and of the words of text."""

from __future__ import annotations

import random
import re
import struct

_BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)
_WORDS = re.compile(rb'"[^"\n]{0,40}"|[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?|[A-Za-z_]+|[^\sA-Za-z0-9]')
_TOKENS = (
    *(b"0", b"-1", b"1e400", b"-1e-400", b"NaN", b"Infinity", b"null", b"true", b"9" * 400, b"0x10", b"1_000"),
    *(b'""', b"[]", b"{}", b"[[[[", b"]]]]", b"{{", b"}}", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28"),
    *(b"&a", b"*a", b"!!python/object:os.system x", b"<<: *a", b"- - - -", b"%YAML 9.9", b"|", b">", b"? ", b": "),
    *(b"<![CDATA[", b"<!DOCTYPE a [<!ENTITY a 'b'>]>", b"&a;", b"</document>", b"<a>" * 50, b",", b";", b"\t", b"\r"),
    *(
        b"../../../etc/passwd",
        b"/etc/passwd",
        b"file:///etc/passwd",
        b"s3://",
        b"~",
        b"$HOME",
        b"C:\\",
        b"\xe2\x80\xae",
    ),
)
MOST_BYTES, MOST_TEXT = 1 << 20, 1 << 15


def mutated(data: bytes, other: bytes, rng: random.Random, text: bool) -> bytes:
    """A file with one to six mutations.

    Args:
        other: another file of the same kind, to splice with.
        text: whether words are changed as well as bytes.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        ways = (*_OF_BYTES, *(_OF_TEXT * 3 if text else _OF_FIELDS))
        data = rng.choice(ways)(data, other, rng)[: MOST_TEXT if text else MOST_BYTES]
    return data


def _flip(data: bytes, other: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\x00"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(data: bytes, other: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\xff"
    changed = bytearray(data)
    start = rng.randrange(len(changed))
    for offset in range(start, min(len(changed), start + rng.choice((1, 1, 2, 4, 16)))):
        changed[offset] = rng.choice(_BYTES)
    return bytes(changed)


def _cut(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _delete(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 4, 16, 256)) :]


def _double(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice((1, 4, 64, 1024))]
    return data[:start] + piece * rng.choice((2, 2, 3, 50)) + data[start:]


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _tail(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice((1, 16, 1024)))


def _number(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A wrong number where a length, an offset or a size may stand: two, four or eight bytes of either order."""
    width, order = rng.choice((2, 4, 4, 8)), rng.choice("<>")
    if len(data) < width:
        return data
    # the heads of files and of their boxes are where lengths stand
    most = len(data) - width
    offset = rng.randrange(min(most, 512) + 1) if rng.random() < 0.6 else rng.randrange(most + 1)
    value = rng.choice((*_NUMBERS, len(data), len(data) - offset, rng.randrange(1 << 16)))
    letter = {2: "H", 4: "I", 8: "Q"}[width]
    field = struct.pack(order + letter, value & ((1 << 8 * width) - 1))
    return data[:offset] + field + data[offset + width :]


def _nudge(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A four-byte number that is there, a little more or less."""
    if len(data) < 4:
        return data
    offset, order = rng.randrange(len(data) - 3), rng.choice("<>")
    (value,) = struct.unpack_from(order + "I", data, offset)
    value = (value + rng.choice((-2, -1, 1, 2, 256, -256))) & 0xFFFFFFFF
    return data[:offset] + struct.pack(order + "I", value) + data[offset + 4 :]


def _word(data: bytes, other: bytes, rng: random.Random) -> bytes:
    found = list(_WORDS.finditer(data[:65536]))
    if not found:
        return data + rng.choice(_TOKENS)
    place = rng.choice(found)
    source = list(_WORDS.finditer(other[:65536])) if rng.random() < 0.3 else []
    new = rng.choice(source).group() if source else rng.choice(_TOKENS)
    return data[: place.start()] + new + data[place.end() :]


def _insert(data: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.choice(_TOKENS) + data[start:]


def _line(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A line left out, doubled, or moved."""
    lines = data.split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.choice((0, 1, 2))):
        lines.insert(rng.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def _deep(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Thousands of brackets or levels of indentation."""
    count = rng.choice((100, 3000, 60000))
    start = rng.randrange(len(data) + 1)
    opened = rng.choice((b"[", b"{", b'{"a":', b"[[", b"<a>", b"- "))
    return data[:start] + opened * count + data[start:]


_OF_BYTES = (_flip, _set, _cut, _delete, _double, _splice, _tail)
_OF_FIELDS = (_number, _number, _number, _nudge, _nudge)
_OF_TEXT = (_word, _word, _insert, _line, _deep)
