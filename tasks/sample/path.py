"""Where a photographer holds the camera."""

from __future__ import annotations

import numpy as np

from tasks.sample.noise import FloatArray


def look_at(eye: FloatArray, target: FloatArray, roll: float) -> FloatArray:
    """[4, 4] c2w of a camera at `eye` [3] that looks at `target` [3], turned by `roll` radians about its own axis."""
    forward = target - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c2w = np.eye(4)
    c2w[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    c2w[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    c2w[:3, 2] = forward
    c2w[:3, 3] = eye
    return c2w


def around(target: FloatArray, azimuth: float, elevation: float, distance: float) -> FloatArray:
    """[3] the place at `distance` from `target`; both angles in radians, elevation above the level plane."""
    level = np.cos(elevation)
    direction = [np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(elevation)]
    return np.asarray(target + distance * np.array(direction))
