"""One frame of a cameras file, not yet joined to a photo: its name, its pose, its lens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.camera import OPENGL_FROM_OPENCV, FloatArray
from models.errors import DigitizeError, ReasonCode
from tasks.pose.given.lens import LensOf

_RIGID = 1e-3
_NUMBER = re.compile(r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")


@dataclass(frozen=True)
class Frame:
    """One frame as a reader found it."""

    name: str
    """The picture's name or path in the file."""
    c2w: FloatArray
    """[4, 4] OpenCV camera to world, its rotation exact."""
    lens: LensOf
    others: tuple[tuple[str, FloatArray], ...] = ()
    """Other readings of the same numbers, [4, 4] OpenCV camera to world, by what was then wrong about the file."""


@dataclass(frozen=True)
class GivenFile:
    """What a reader found in a file."""

    frames: tuple[Frame, ...]
    faults: tuple[str, ...] = ()
    """Frames that could not be read: each costs itself alone."""
    notes: tuple[str, ...] = ()


def invalid(message: str, hint: str = "") -> DigitizeError:
    """The error for a cameras file that cannot be used."""
    return DigitizeError(ReasonCode.POSES_INVALID, message, hint)


def number(value: Any, what: str) -> float:
    """A finite number out of a file: a number, or text that is one.

    Raises DigitizeError(poses_invalid).
    """
    if isinstance(value, str) and _NUMBER.match(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e300:
        raise invalid(f"{what} to be a finite number, found {str(value)[:40]!r}")
    return float(value)


def rigid(matrix: Any, name: str) -> FloatArray:
    """[4, 4] rigid transform nearest to `matrix`. One scale of all three axes is taken out of it: some exporters write
    the size of a scaled camera object into its rotation.

    Raises DigitizeError(poses_invalid) when it is not finite, not 4x4 (or 3x4), or not rigid within 0.001.
    """
    try:
        m = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"{name}: expected a 4x4 matrix of numbers") from error
    if m.shape == (3, 4):
        m = np.vstack([m, [0.0, 0.0, 0.0, 1.0]])
    if m.shape != (4, 4):
        raise invalid(f"{name}: expected a 4x4 matrix, found shape {m.shape}")
    if not np.isfinite(m).all():
        raise invalid(f"{name}: expected finite numbers, found {m[~np.isfinite(m)][0]}")
    determinant = float(np.linalg.det(m[:3, :3]))
    turn = m[:3, :3] / np.cbrt(determinant) if 1e-9 < determinant < 1e9 else m[:3, :3]
    error_of = float(np.abs(turn @ turn.T - np.eye(3)).max())
    if error_of > _RIGID or determinant <= 0 or np.abs(m[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise invalid(
            f"{name}: expected a rigid camera-to-world matrix (rotation and position), found one that is off by "
            f"{error_of:.3g}, determinant {determinant:.3g}"
        )
    u, _, vt = np.linalg.svd(turn)
    m[:3, :3] = u @ vt
    return m


def other_readings(c2w: FloatArray, opengl: bool) -> tuple[tuple[str, FloatArray], ...]:
    """What a pose may mean in the conventions that are most often confused.

    Args:
        c2w: [4, 4] OpenCV camera to world, as the file's format has it.
        opengl: whether that format has OpenGL's camera axes.
    """
    flip = OPENGL_FROM_OPENCV
    inverse: FloatArray = np.asarray(np.linalg.inv(c2w @ flip if opengl else c2w), dtype=np.float64)
    axes = "OpenCV's camera axes (y down, z forward)" if opengl else "OpenGL's camera axes (y up, z backward)"
    return (
        (axes, c2w @ flip),
        ("world-to-camera matrices", inverse @ flip if opengl else inverse),
        (f"world-to-camera matrices with {axes}", inverse if opengl else inverse @ flip),
    )
