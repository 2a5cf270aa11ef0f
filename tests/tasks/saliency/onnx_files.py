"""The smallest ONNX files, written by hand: protobuf fields in the order of onnx.proto."""

from __future__ import annotations

from collections.abc import Sequence

Size = int | str
FLOAT, INT64 = 1, 7


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def tensor(name: str, shape: Sequence[Size], kind: int = FLOAT) -> bytes:
    """A ValueInfoProto: an input or output; sizes that are words are left open."""
    sizes = b"".join(_part(1, _number(1, each) if isinstance(each, int) else _part(2, each)) for each in shape)
    return _part(1, name) + _part(2, _part(1, _number(1, kind) + _part(2, sizes)))


def mean_over_channels(source: str = "picture", result: str = "mask") -> bytes:
    """A NodeProto: the mean over axis 1, which is kept."""
    axes = _part(1, "axes") + _number(8, 1) + _number(20, 7)
    return _part(1, source) + _part(2, result) + _part(4, "ReduceMean") + _part(5, axes)


def node(kind: str, sources: Sequence[str] = ("picture",), result: str = "mask") -> bytes:
    """A NodeProto without attributes."""
    return b"".join(_part(1, each) for each in sources) + _part(2, result) + _part(4, kind)


def zeros(name: str, shape: Sequence[int]) -> bytes:
    """A TensorProto of zeros."""
    dims, count = b"".join(_number(1, each) for each in shape), 1
    for each in shape:
        count *= each
    return dims + _number(2, FLOAT) + _part(8, name) + _part(9, bytes(4 * count))


def in_another_file(name: str, shape: Sequence[int], file: str) -> bytes:
    """A TensorProto whose values lie in a file beside the network."""
    dims = b"".join(_number(1, each) for each in shape)
    return dims + _number(2, FLOAT) + _part(8, name) + _part(13, _part(1, "location") + _part(2, file)) + _number(14, 1)


def network(
    inputs: Sequence[bytes], outputs: Sequence[bytes], nodes: Sequence[bytes], weights: Sequence[bytes] = ()
) -> bytes:
    """A ModelProto."""
    graph = b"".join(_part(1, each) for each in nodes) + _part(2, "g") + b"".join(_part(5, each) for each in weights)
    graph += b"".join(_part(11, each) for each in inputs) + b"".join(_part(12, each) for each in outputs)
    return _number(1, 8) + _part(7, graph) + _part(8, _part(1, "") + _number(2, 13))


def brightness(height: Size = 24, width: Size = 40, batch: Size = 1) -> bytes:
    """A network that answers with the mean of a picture's normalised colours."""
    shape = (batch, 3, height, width)
    return network([tensor("picture", shape)], [tensor("mask", (batch, 1, height, width))], [mean_over_channels()])
