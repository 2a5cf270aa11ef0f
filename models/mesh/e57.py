"""Point clouds as E57 (ASTM E2807), the exchange format of surveying, through pye57's binding of libE57Format.

pye57 is an extra (`asset-digitizer[e57]`). Its own `write_scan_raw` draws random identifiers and knows no normals; its
binding can do both, so that equal points give equal bytes here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import DigitizeError, ReasonCode

_NORMALS = ("nor", "http://www.libe57.org/E57_NOR_surface_normals.txt")
"""Prefix and address of the extension E57_EXT_surface_normals."""
_PLACES = ("cartesianX", "cartesianY", "cartesianZ")
_DIRECTIONS = ("nor:normalX", "nor:normalY", "nor:normalZ")
_COLOURS = ("colorRed", "colorGreen", "colorBlue")


def is_available() -> bool:
    """Whether pye57 is installed."""
    return importlib.util.find_spec("pye57") is not None


def write_e57(
    path: Path,
    xyz: npt.NDArray[np.floating],
    normal: npt.NDArray[np.floating],
    rgb: npt.NDArray[np.uint8],
    name: str,
    description: str,
) -> None:
    """Write points as one scan in the frame that they are in: float64 places, float32 normals, 8-bit sRGB.

    Args:
        xyz: [P, 3] places; P is at least 1. The standard's unit is the metre: say in `description` where they are not.
        normal: [P, 3] unit normals.
        rgb: [P, 3] colours.
        name, description: of the scan.

    Raises:
        DigitizeError(missing_dependency): pye57 is not installed.
    """
    if not is_available():
        message = "expected the package 'pye57' to write E57, found none"
        hint = "Install it: pip install 'asset-digitizer[e57]'."
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, hint, path=path.name)
    from pye57 import libe57

    columns = dict(zip(_PLACES, np.ascontiguousarray(xyz.T, dtype=np.float64), strict=True))
    columns |= dict(zip(_DIRECTIONS, np.ascontiguousarray(normal.T, dtype=np.float32), strict=True))
    columns |= dict(zip(_COLOURS, np.ascontiguousarray(rgb.T, dtype=np.uint8), strict=True))
    digest = hashlib.sha256(b"".join(each.tobytes() for each in columns.values())).hexdigest()
    path.unlink(missing_ok=True)
    file = libe57.ImageFile(str(path), "w")
    try:
        _write_header(libe57, file, digest)
        scan = _structure(libe57, file, {"guid": _guid(f"scan {digest}"), "name": name, "description": description})
        scan.set("cartesianBounds", _structure(libe57, file, _bounds(columns)))
        limits = {f"{each}{end}": value for each in _COLOURS for end, value in (("Minimum", 0), ("Maximum", 255))}
        scan.set("colorLimits", _structure(libe57, file, limits))
        points = libe57.CompressedVectorNode(file, _prototype(libe57, file, columns), libe57.VectorNode(file, True))
        scan.set("points", points)
        file.root()["data3D"].append(scan)
        buffers = libe57.VectorSourceDestBuffer()
        for field, values in columns.items():
            buffers.append(libe57.SourceDestBuffer(file, field, values, len(values), True, False))
        writer = points.writer(buffers)
        writer.write(len(xyz))
        writer.close()
    finally:
        file.close()


def _write_header(libe57: Any, file: Any, digest: str) -> None:
    """The root's elements that the standard requires; the time of writing is left at 0, so that bytes do not change."""
    file.extensionsAdd("", libe57.E57_V1_0_URI)
    file.extensionsAdd(*_NORMALS)
    root = file.root()
    facts = {
        "formatName": "ASTM E57 3D Imaging Data File",
        "guid": _guid(f"file {digest}"),
        "versionMajor": libe57.E57_FORMAT_MAJOR,
        "versionMinor": libe57.E57_FORMAT_MINOR,
        "e57LibraryVersion": libe57.E57_LIBRARY_ID,
        "coordinateMetadata": "",
    }
    for field, value in facts.items():
        root.set(field, _node(libe57, file, value))
    root.set("creationDateTime", _structure(libe57, file, {"dateTimeValue": 0.0, "isAtomicClockReferenced": 0}))
    root.set("data3D", libe57.VectorNode(file, True))
    root.set("images2D", libe57.VectorNode(file, True))


def _prototype(libe57: Any, file: Any, columns: dict[str, npt.NDArray[Any]]) -> Any:
    """One record: each column's type and bounds."""
    record = libe57.StructureNode(file)
    for field, values in columns.items():
        if values.dtype == np.uint8:
            node = libe57.IntegerNode(file, 0, 0, 255)
        else:
            low, high = (-1.0, 1.0) if field in _DIRECTIONS else (float(values.min()), float(values.max()))
            precision = libe57.E57_DOUBLE if values.dtype == np.float64 else libe57.E57_SINGLE
            node = libe57.FloatNode(file, low, precision, low, high)
        record.set(field, node)
    return record


def _bounds(columns: dict[str, npt.NDArray[Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for axis, field in zip("xyz", _PLACES, strict=True):
        found |= {f"{axis}Minimum": float(columns[field].min()), f"{axis}Maximum": float(columns[field].max())}
    return found


def _structure(libe57: Any, file: Any, values: dict[str, Any]) -> Any:
    node = libe57.StructureNode(file)
    for field, value in values.items():
        node.set(field, _node(libe57, file, value))
    return node


def _node(libe57: Any, file: Any, value: Any) -> Any:
    kind = {str: libe57.StringNode, int: libe57.IntegerNode, float: libe57.FloatNode}[type(value)]
    return kind(file, value)


def _guid(text: str) -> str:
    return f"{{{uuid.uuid5(uuid.NAMESPACE_URL, text)}}}"
