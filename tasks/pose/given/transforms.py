"""Read `transforms.json` in the variants of Instant-NGP, nerfstudio and Blender exports, and this project's own
`cameras.json`.

Formats: https://docs.nerf.studio/quickstart/data_conventions.html and colmap2nerf.py of Instant-NGP.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.camera import OPENGL_FROM_OPENCV, CameraSet, FloatArray
from models.errors import DigitizeError
from tasks.pose.given.frame import Frame, GivenFile, invalid, number, other_readings, rigid
from tasks.pose.given.lens import GivenLens, LensOf, checked

_PERSPECTIVE = frozenset(
    {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV", "PERSPECTIVE"}
)
_FISHEYE = frozenset({"OPENCV_FISHEYE", "FISHEYE"})


def read_transforms(data: Any) -> GivenFile:
    """The frames of the content of a transforms.json.

    What a frame says comes before what the file says. `applied_transform` and `applied_scale`, which nerfstudio has
    applied to the poses, are taken back: the world is the one in which the cameras were solved.
    """
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list):
        raise invalid("expected an object with a list `frames`")
    shared = {key: value for key, value in data.items() if key != "frames"}
    undo, scale = _applied(shared)
    frames, faults, masked = [], [], 0
    for position, entry in enumerate(data["frames"]):
        try:
            if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
                raise invalid(f"frame {position}: expected an object with `file_path`")
            frames.append(_frame({**shared, **entry}, entry["file_path"], undo, scale))
            masked += isinstance(entry.get("mask_path"), str)
        except DigitizeError as error:
            faults.append(error.message)
    notes = []
    if masked:
        notes.append(
            f"`mask_path` of {masked} frames is not read: to use these masks, name their folder under `masks:`"
        )
    return GivenFile(tuple(frames), tuple(faults), tuple(notes))


def read_cameras(cameras: CameraSet) -> GivenFile:
    """The frames of a CameraSet."""
    frames, faults = [], []
    for image in cameras.images:
        c = image.camera
        lens = GivenLens("PINHOLE", (c.fx, c.fy, c.cx, c.cy), c.width, c.height)
        try:
            c2w = rigid(image.c2w, image.name)
        except DigitizeError as error:
            faults.append(error.message)
            continue
        frames.append(Frame(image.name, c2w, _same(lens), other_readings(c2w, opengl=False)))
    return GivenFile(tuple(frames), tuple(faults))


def _same(lens: GivenLens) -> LensOf:
    return lambda width, height: lens


def _frame(entry: dict[str, Any], name: str, undo: FloatArray, scale: float) -> Frame:
    given = rigid(entry.get("transform_matrix"), name)
    given[:3, 3] /= scale
    matrix = undo @ given
    _lens(entry, name, 640, 480)  # a fault of the frame alone shows here
    c2w = matrix @ OPENGL_FROM_OPENCV
    return Frame(name, c2w, lambda width, height: _lens(entry, name, width, height), other_readings(c2w, opengl=True))


def _applied(shared: dict[str, Any]) -> tuple[FloatArray, float]:
    """What takes back `applied_transform`, [4, 4], and the scale that was applied to positions after it."""
    matrix = shared.get("applied_transform")
    applied = np.eye(4) if matrix is None else rigid(matrix, "applied_transform")
    scale = number(shared.get("applied_scale", 1.0), "expected `applied_scale`")
    if scale <= 0:
        raise invalid(f"expected `applied_scale` above 0, found {scale:g}")
    return np.asarray(np.linalg.inv(applied), dtype=np.float64), scale


def _lens(entry: dict[str, Any], name: str, width: float, height: float) -> GivenLens:
    """The lens of a frame for a photo of `width` x `height` pixels, where the file does not tell the size."""

    def value(key: str, default: float) -> float:
        found = entry.get(key)
        return default if found is None else number(found, f"{name}: expected `{key}`")

    w, h = value("w", width), value("h", height)
    if w <= 0 or h <= 0:
        raise invalid(f"{name}: expected a size `w`, `h` above 0, found {w:g} x {h:g}")
    fx = value("fl_x", 0.0) or _from_angle(value("camera_angle_x", 0.0), w)
    fy = value("fl_y", 0.0) or _from_angle(value("camera_angle_y", 0.0), h) or fx
    fx = fx or fy
    if not fx > 0 or not fy > 0:
        raise invalid(f"{name}: expected `fl_x` or `camera_angle_x`, found neither above 0")
    centre = (fx, fy, value("cx", w / 2), value("cy", h / 2))
    k1, k2, k3, k4, p1, p2 = (value(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    model = entry.get("camera_model", "OPENCV")
    if model in _FISHEYE or entry.get("is_fisheye") is True:
        return checked(GivenLens("OPENCV_FISHEYE", (*centre, k1, k2, k3, k4), w, h), name)
    if model not in _PERSPECTIVE:
        known = ", ".join(sorted(_PERSPECTIVE | _FISHEYE))
        raise invalid(f"{name}: expected a `camera_model` of {known}, found {str(model)[:40]!r}")
    if k4:
        raise invalid(f"{name}: expected distortion k1, k2, k3, p1, p2 of a lens that is no fisheye, found `k4`")
    if k3:
        return checked(GivenLens("FULL_OPENCV", (*centre, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0), w, h), name)
    return checked(GivenLens("OPENCV", (*centre, k1, k2, p1, p2), w, h), name)


def _from_angle(angle: float, edge: float) -> float:
    """Focal length in pixels of a field of view in radians; 0 where it is none."""
    return 0.5 * edge / float(np.tan(0.5 * angle)) if 0.0 < angle < np.pi else 0.0
