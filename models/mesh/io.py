"""PLY files: a mesh with vertex colours and texture coordinates, in plain numpy.

Written: binary little endian, positions as doubles (a capture keeps its frame to the last bit). Read: binary of
either byte order and text, any property order, polygons split into fans.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDER = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))
_HINT = "Export the mesh again as a PLY of triangles."

Columns = dict[str, npt.NDArray[np.generic]]


def write_ply(path: Path, mesh: Mesh) -> None:
    """Write vertices, faces, and colours, uv (as `s`, `t`) and `seen` (0 or 1) where the mesh has them; no texture."""
    names = [("x", "<f8"), ("y", "<f8"), ("z", "<f8")]
    columns: list[npt.NDArray[Any]] = [mesh.vertices]
    if mesh.colors is not None:
        names += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
        columns.append(mesh.colors)
    if mesh.uv is not None:
        names += [("s", "<f8"), ("t", "<f8")]
        columns.append(mesh.uv)
    if mesh.seen is not None:
        names.append(("seen", "u1"))
        columns.append(mesh.seen[:, None])
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    faces["count"], faces["corners"] = 3, mesh.faces
    header = [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    _write(path, names, columns, header, faces.tobytes())


def write_point_cloud(
    path: Path, xyz: npt.NDArray[np.floating], normal: npt.NDArray[np.floating], rgb: npt.NDArray[np.uint8]
) -> None:
    """Write points [P, 3] with unit normals [P, 3] and sRGB colours [P, 3] as a PLY without faces."""
    names = [("x", "<f8"), ("y", "<f8"), ("z", "<f8"), ("nx", "<f4"), ("ny", "<f4"), ("nz", "<f4")]
    names += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    _write(path, names, [xyz, normal, rgb], [], b"")


def _write(
    path: Path, names: list[tuple[str, str]], blocks: list[npt.NDArray[Any]], more: list[str], tail: bytes
) -> None:
    """Vertices from the columns of `blocks`, then the elements that `more` announces and `tail` holds."""
    vertices = np.empty(len(blocks[0]), dtype=names)
    for (name, _), values in zip(names, (c for block in blocks for c in block.T), strict=True):
        vertices[name] = values
    words = {"<f8": "double", "<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property {words[kind]} {name}" for name, kind in names]
    with path.open("wb") as out:
        out.write("\n".join([*header, *more, "end_header", ""]).encode("ascii"))
        out.write(vertices.tobytes())
        out.write(tail)


def read_ply(path: Path) -> Mesh:
    """Read a mesh. Colours, uv and `seen` are None where the file has none; without faces the face array is empty.

    Raises:
        DigitizeError: source_not_found, or undecodable when the file is not a PLY, ends early, or names vertices
            that do not exist.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected a PLY file: {error}", path=str(path)) from error
    try:
        return _parse(data)
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        message = f"expected a PLY mesh, found: {error}"
        raise DigitizeError(ReasonCode.UNDECODABLE, message, hint=_HINT, path=str(path)) from error


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(name, type, type of the list's count or None)"""


def _parse(data: bytes) -> Mesh:
    order, elements, offset = _header(data)
    read = _read_text if order == "=" else _read_binary
    blocks = read(data[offset:], elements, order)
    vertex = blocks["vertex"]
    vertices = np.stack([vertex[k] for k in "xyz"], 1).astype(np.float64)
    face = blocks.get("face", {})
    faces = face.get("vertex_indices", face.get("vertex_index"))
    triangles = np.zeros((0, 3), np.int64) if faces is None else faces.astype(np.int64)
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise ValueError(f"faces that name vertices outside 0..{len(vertices) - 1}")
    colors = uv = None
    if {"red", "green", "blue"} <= vertex.keys():
        rgb = np.stack([vertex[k] for k in ("red", "green", "blue")], 1)
        floating = np.issubdtype(rgb.dtype, np.floating)
        colors = (np.clip(rgb.astype(np.float64), 0, 1) * 255 + 0.5 if floating else rgb).astype(np.uint8)
    for s, t in _UV_NAMES:
        if s in vertex and t in vertex:
            uv = np.stack([vertex[s], vertex[t]], 1).astype(np.float64)
            break
    seen = vertex["seen"] != 0 if "seen" in vertex else None
    return Mesh(vertices, triangles, uv=uv, colors=colors, seen=seen)


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("no PLY header")
    offset = data.index(b"\n", end) + 1
    order, elements = "", list[_Element]()
    for line in data[:end].decode("ascii", errors="replace").splitlines():
        words = line.split()
        match words[:1]:
            case ["format"]:
                order = _ORDER[words[1]]
            case ["element"]:
                elements.append(_Element(words[1], int(words[2])))
            case ["property"] if words[1] == "list":
                elements[-1].properties.append((words[4], _TYPES[words[3]], _TYPES[words[2]]))
            case ["property"]:
                elements[-1].properties.append((words[2], _TYPES[words[1]], None))
    if not order:
        raise ValueError("no format line")
    return order, elements, offset


def _read_binary(data: bytes, elements: list[_Element], order: str) -> dict[str, Columns]:
    blocks: dict[str, Columns] = {}
    offset = 0
    for element in elements:
        # nearly every file is pure triangles: read those as one array, and walk row by row only where that fails
        kinds: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
        for name, kind, counter in element.properties:
            if counter is None:
                kinds.append((name, order + kind))
            else:
                kinds += [(f"#{name}", order + counter), (name, order + kind, (3,))]
        lists = [name for name, _, counter in element.properties if counter is not None]
        dtype = np.dtype(kinds)
        size = dtype.itemsize * element.count
        rows = np.frombuffer(data[offset : offset + size], dtype) if offset + size <= len(data) else None
        if rows is not None and all((rows[f"#{name}"] == 3).all() for name in lists):
            blocks[element.name] = {name: rows[name] for name, _, _ in element.properties}
            offset += size
        elif lists:
            blocks[element.name], offset = _walk(data, offset, element, order)
        else:
            raise ValueError(f"a file that ends inside its {element.name} list")
    return blocks


def _walk(data: bytes, offset: int, element: _Element, order: str) -> tuple[Columns, int]:
    rows: list[list[npt.NDArray[np.generic]]] = []
    for _ in range(element.count):
        row = []
        for _, kind, counter in element.properties:
            count = 1
            if counter is not None:
                count = int(np.frombuffer(data, order + counter, 1, offset)[0])
                offset += np.dtype(counter).itemsize
            row.append(np.frombuffer(data, order + kind, count, offset))
            offset += np.dtype(kind).itemsize * count
        rows.append(row)
    return _polygon_columns(element, rows), offset


def _read_text(data: bytes, elements: list[_Element], order: str) -> dict[str, Columns]:
    words = np.array(data.split(), dtype=np.float64)
    blocks: dict[str, Columns] = {}
    at = 0
    for element in elements:
        rows: list[list[npt.NDArray[np.generic]]] = []
        for _ in range(element.count):
            row: list[npt.NDArray[np.generic]] = []
            for _, kind, counter in element.properties:
                count = 1
                if counter is not None:
                    count, at = int(words[at]), at + 1
                if at + count > len(words):
                    raise ValueError(f"a file that ends inside its {element.name} list")
                row.append(words[at : at + count].astype(kind))
                at += count
            rows.append(row)
        blocks[element.name] = _polygon_columns(element, rows)
    return blocks


def _polygon_columns(element: _Element, rows: list[list[npt.NDArray[np.generic]]]) -> Columns:
    """Columns of an element read row by row: scalars as they are, lists as the triangle fans of their polygons."""
    columns: Columns = {}
    for k, (name, kind, counter) in enumerate(element.properties):
        if counter is None:
            columns[name] = np.array([row[k][0] for row in rows], dtype=kind)
        else:
            fans = [[p[0], p[i], p[i + 1]] for p in (row[k] for row in rows) for i in range(1, len(p) - 1)]
            columns[name] = np.array(fans, dtype=kind).reshape(-1, 3)
    return columns
