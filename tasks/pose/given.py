"""Read cameras given by the user: transforms.json (OpenGL axes) or cameras.json (OpenCV axes)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import ValidationError

from models.camera import OPENGL_FROM_OPENCV, CameraSet, FloatArray
from models.errors import DigitizeError, ReasonCode
from models.media import PHOTO_SUFFIXES
from tasks.context import Context
from tasks.external import fetch_external
from tasks.pose.base import Capture, Photo

_RIGID = 1e-3
_LEAST_FRAMES = 2
"""Photos with a frame below which the names are taken to be wrong."""
_DISTORTION = ("k1", "k2", "p1", "p2")


@dataclass(frozen=True)
class GivenCamera:
    """One photo's camera at the stored size: OpenCV model, pixels."""

    c2w: FloatArray
    """[4, 4] OpenCV camera to world, its rotation made exact."""
    params: tuple[float, ...]
    """fx, fy, cx, cy, k1, k2, p1, p2."""


def read_given(context: Context, capture: Capture, form: str) -> dict[str, GivenCamera]:
    """The given cameras by the photo's name. Photos without one are left out: they are reported as not registered.

    Raises DigitizeError(poses_invalid) naming the file and the frame.
    """
    path = fetch_external(context, "poses")
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix.lower() in (".json", ".txt", ".bin"))
        there = f" with {', '.join(inside[:3])}" if inside else ""
        raise _invalid(f"expected a file such as transforms.json, found a folder{there}", path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if form == "cameras":
            return parse_cameras(CameraSet.model_validate_json(text), capture.photos)
        return parse_transforms(json.loads(text), capture.photos)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _invalid(f"expected a CameraSet, found at {where or 'the top'}: {first['msg']}", path) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _invalid(f"expected JSON, found: {error}", path) from error
    except DigitizeError as error:
        error.path = error.path or path.name
        raise


def parse_transforms(data: Any, photos: tuple[Photo, ...]) -> dict[str, GivenCamera]:
    """Cameras from the content of a transforms.json.

    Intrinsics of a frame come before those of the file; sizes `w` and `h` other than the photo's own are scaled.
    """
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list):
        raise _invalid("expected an object with a list `frames`")
    model = data.get("camera_model", "OPENCV")
    if model not in {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"}:
        raise _invalid(f"expected camera_model OPENCV, PINHOLE or RADIAL, found {model!r}")
    if data.get("is_fisheye") is True:
        raise _invalid("expected a lens of camera_model OPENCV, PINHOLE or RADIAL, found `is_fisheye`: not read yet")
    frames = {}
    for number, frame in enumerate(data["frames"]):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise _invalid(f"frame {number}: expected an object with `file_path`")
        frames[frame["file_path"]] = {**data, **frame}

    def camera(photo: Photo, name: str) -> GivenCamera:
        frame = frames[name]
        c2w = rigid(frame.get("transform_matrix"), name) @ OPENGL_FROM_OPENCV
        return GivenCamera(c2w, _intrinsics(frame, photo, name))

    return _for_every_photo(photos, list(frames), camera)


def parse_cameras(cameras: CameraSet, photos: tuple[Photo, ...]) -> dict[str, GivenCamera]:
    """Cameras from a CameraSet."""
    by_name = {image.name: image for image in cameras.images}

    def camera(photo: Photo, name: str) -> GivenCamera:
        image = by_name[name]
        fitted = image.camera.resized(photo.width, photo.height)
        c2w = rigid(image.c2w, name)
        return GivenCamera(c2w, (fitted.fx, fitted.fy, fitted.cx, fitted.cy, 0.0, 0.0, 0.0, 0.0))

    return _for_every_photo(photos, list(by_name), camera)


def rigid(matrix: Any, name: str) -> FloatArray:
    """[4, 4] rigid transform nearest to `matrix`.

    Raises DigitizeError(poses_invalid) when it is not finite, not 4x4 (or 3x4), or not rigid within 0.001.
    """
    try:
        m = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _invalid(f"{name}: expected a 4x4 matrix of numbers") from error
    if m.shape == (3, 4):
        m = np.vstack([m, [0.0, 0.0, 0.0, 1.0]])
    if m.shape != (4, 4):
        raise _invalid(f"{name}: expected a 4x4 matrix, found shape {m.shape}")
    if not np.isfinite(m).all():
        raise _invalid(f"{name}: expected finite numbers, found {m[~np.isfinite(m)][0]}")
    turn = m[:3, :3]
    error_of = float(np.abs(turn @ turn.T - np.eye(3)).max())
    if error_of > _RIGID or np.linalg.det(turn) < 0 or np.abs(m[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise _invalid(
            f"{name}: expected a rigid camera-to-world matrix (rotation and position), found one that is off by "
            f"{error_of:.3g}, determinant {np.linalg.det(turn):.3g}"
        )
    u, _, vt = np.linalg.svd(turn)
    m[:3, :3] = u @ vt
    return m


def _for_every_photo(
    photos: tuple[Photo, ...], names: list[str], camera: Callable[[Photo, str], GivenCamera]
) -> dict[str, GivenCamera]:
    """Match frames to photos: by base name with extension, else without it, else with the folders before it: ingest
    calls `card1/IMG_1.jpg` `card1_IMG_1.jpg` where several folders have an `IMG_1.jpg`."""
    exact, stems = _index(names, lambda name: PurePosixPath(name).name), _index(names, _stem)
    joined, bare = _index_all(names, lambda name: name), _index_all(names, _stem)
    found, missing = {}, []
    for photo in photos:
        stem = _stem(photo.name)
        matches = exact.get(photo.name) or stems.get(stem) or joined.get(photo.name) or bare.get(stem) or []
        if not matches:
            missing.append(photo.name)
        elif len(matches) > 1:
            raise _invalid(f"{photo.name}: expected one frame, found {', '.join(matches)}")
        else:
            found[photo.name] = camera(photo, matches[0])
    if missing and len(found) < _LEAST_FRAMES:
        listed = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        there = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise _invalid(
            f"expected frames named as the photos, found none for {listed}; the frames are {there or 'none'}"
        )
    return found


def _index_all(names: list[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    """The frames by every way to write their path with `_` for `/`, from the base name to the whole."""
    index: dict[str, list[str]] = {}
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for start in range(len(parts)):
            index.setdefault(key("_".join(parts[start:])), []).append(name)
    return index


def _index(names: list[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in names:
        index.setdefault(key(name.replace("\\", "/")), []).append(name)
    return index


def _stem(name: str) -> str:
    """The base name without a picture's extension; a dot that is part of the name stays."""
    base = PurePosixPath(name).name
    known = Path(base).suffix.lower() in PHOTO_SUFFIXES | {".bmp"}
    return base[: -len(Path(base).suffix)] if known else base


def _intrinsics(frame: dict[str, Any], photo: Photo, name: str) -> tuple[float, ...]:
    def number(key: str, default: float | None) -> float | None:
        value = frame.get(key, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise _invalid(f"{name}: expected `{key}` to be a finite number, found {value!r}")
        return float(value)

    width, height = number("w", photo.source_width), number("h", photo.source_height)
    if not width or not height or width < 0 or height < 0:
        raise _invalid(f"{name}: expected a size `w`, `h` above 0, found {width} x {height}")
    if abs(width / height - photo.width / photo.height) > 0.02 * photo.width / photo.height:
        raise _invalid(
            f"{name}: expected the shape of {photo.name}, {photo.width}x{photo.height}, found {width:g}x{height:g}"
        )
    fx = number("fl_x", None) or _from_angle(number("camera_angle_x", None), width)
    fy = number("fl_y", None) or _from_angle(number("camera_angle_y", None), height) or fx
    fx = fx or fy
    if not fx or not fy or fx <= 0 or fy <= 0:
        raise _invalid(f"{name}: expected `fl_x` or `camera_angle_x`, found neither above 0")
    cx, cy = number("cx", width / 2), number("cy", height / 2)
    for unread in ("k3", "k4"):
        if number(unread, 0.0):
            raise _invalid(f"{name}: expected distortion k1, k2, p1, p2 alone, found `{unread}`")
    sx, sy = photo.width / width, photo.height / height
    lens = [number(key, 0.0) or 0.0 for key in _DISTORTION]
    return (fx * sx, fy * sy, (cx or 0.0) * sx, (cy or 0.0) * sy, *lens)


def _from_angle(angle: float | None, edge: float) -> float | None:
    return 0.5 * edge / float(np.tan(0.5 * angle)) if angle else None


def _invalid(message: str, path: Path | None = None) -> DigitizeError:
    return DigitizeError(ReasonCode.POSES_INVALID, message, path=path.name if path else None)
