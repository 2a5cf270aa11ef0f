"""Read the "internal/external camera parameters" that RealityCapture (now RealityScan) exports as CSV.

Heading, pitch and roll in degrees turn a camera that looks down with its top to the north; the focal length is that of
35 mm film; the principal point, and the coordinates that distortion acts on, are in shares of the longer edge or of the
focal length ("RealityCapture XMP camera math", Capturing Reality).
"""

from __future__ import annotations

import csv
import io

import numpy as np

from models.camera import OPENGL_FROM_OPENCV, FloatArray
from models.errors import DigitizeError
from tasks.pose.given.frame import Frame, GivenFile, invalid, number, other_readings, rigid
from tasks.pose.given.lens import GivenLens, LensOf, checked, rational

_FILM_MM = 36.0
_NEEDED = ("x", "y", "alt", "heading", "pitch", "roll", "f")


def read_realitycapture(text: str) -> GivenFile:
    """The frames of an exported CSV. Raises DigitizeError(poses_invalid)."""
    rows = _rows(text)
    frames, faults = [], []
    for line, row in rows:
        name = row["name"]
        try:
            values = {key: number(row[key], f"{name}, line {line}: expected `{key}`") for key in row if key != "name"}
            frames.append(_frame(name, values))
        except DigitizeError as error:
            faults.append(error.message)
    if not frames and not faults:
        raise invalid("expected a line for each camera below the header, found none")
    return GivenFile(tuple(frames), tuple(faults))


def _rows(text: str) -> list[tuple[int, dict[str, str]]]:
    """Each camera's line number and its values by the column's name."""
    first = text.lstrip("\ufeff").splitlines()[:1]
    delimiter = max(",;\t", key=first[0].count) if first else ","
    header: list[str] = []
    rows = []
    try:
        for line, fields in enumerate(csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=delimiter), 1):
            if not header:
                header = [field.strip().lstrip("#").casefold() for field in fields]
                if lost := [key for key in ("name", *_NEEDED) if key not in header]:
                    raise invalid(
                        f"expected the header #name,x,y,alt,heading,pitch,roll,f,px,py,k1,... that RealityCapture "
                        f"writes, found none of {', '.join(lost)} in {','.join(header)[:80]!r}"
                    )
            elif fields and fields[0].strip() and not fields[0].startswith("#"):
                if len(fields) < len(header):
                    raise invalid(f"line {line}: expected {len(header)} values, found {len(fields)}")
                pairs = zip(header, (field.strip() for field in fields), strict=False)
                rows.append((line, {key: value for key, value in pairs if key in _KNOWN}))
    except csv.Error as error:
        raise invalid(f"expected a table of comma-separated values, found: {error}") from error
    return rows


_KNOWN = frozenset({"name", *_NEEDED, "px", "py", "k1", "k2", "k3", "k4", "t1", "t2"})


def _frame(name: str, values: dict[str, float]) -> Frame:
    position = [values["x"], values["y"], values["alt"]]
    c2w = _pose(values["heading"], values["pitch"], values["roll"], position, name)
    half_turned = _pose(values["heading"] - 180, values["pitch"], values["roll"] - 180, position, name)
    others = (("heading and roll turned by 180 degrees", half_turned), *other_readings(c2w, opengl=True))
    _lens(values, 640, 480, name)  # a fault of the line alone shows here
    return Frame(name, c2w, _lens_of(values, name), others)


def _lens_of(values: dict[str, float], name: str) -> LensOf:
    return lambda width, height: _lens(values, width, height, name)


def _pose(heading: float, pitch: float, roll: float, position: list[float], name: str) -> FloatArray:
    """[4, 4] OpenCV camera to world."""
    m = np.eye(4)
    m[:3, :3] = _turn(2, -heading) @ _turn(0, pitch) @ _turn(1, roll)
    m[:3, 3] = position
    return rigid(m @ OPENGL_FROM_OPENCV, name)


def _turn(axis: int, degrees: float) -> FloatArray:
    """[3, 3] rotation about a coordinate axis."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    m = np.eye(3)
    m[a, a], m[a, b], m[b, a], m[b, b] = c, -s, s, c
    return m


def _lens(values: dict[str, float], width: float, height: float, name: str) -> GivenLens:
    edge = max(width, height)
    f = values["f"] / _FILM_MM * edge
    cx, cy = width / 2 + values.get("px", 0.0) * edge, height / 2 + values.get("py", 0.0) * edge
    k1, k2, k3, k4, t1, t2 = (values.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "t1", "t2"))
    if not f > 0:
        raise invalid(f"{name}: expected a focal length `f` above 0, found {values['f']:g}")
    if not (k3 or k4):
        return checked(GivenLens("OPENCV", (f, f, cx, cy, k1, k2, t1, t2), width, height), name)
    radial = rational((k1, k2, k3, k4), f, width, height, name) if k4 else (k1, k2, k3, 0.0, 0.0, 0.0)
    return checked(GivenLens("FULL_OPENCV", (f, f, cx, cy, *radial[:2], t1, t2, *radial[2:]), width, height), name)
