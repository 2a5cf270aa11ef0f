"""The region of interest around the visual hull of the masks."""

from __future__ import annotations

import numpy as np

from models.camera import FloatArray, Matrix4, matrix4


def fit_region(low: FloatArray, high: FloatArray, level: FloatArray, margin: float) -> Matrix4:
    """The similarity that takes [-1, 1]^3 to the cube around a level box.

    Args:
        low, high: [3] corners of the box in the level frame, in world units.
        level: [3, 3] rows of the level frame; the cube keeps its axes.
        margin: room on each side, as a share of the box's longest side.
    """
    m = np.eye(4)
    m[:3, :3] = float((high - low).max()) * (0.5 + margin) * level.T
    m[:3, 3] = (low + high) / 2.0 @ level
    return matrix4(m)
