"""Which cells of the cube must stay empty: those too close to a camera, and those that too few cameras see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.camera import Camera, project


def hidden_cells(
    centres: npt.NDArray[np.float64],
    cameras: Sequence[Camera],
    c2f: Sequence[npt.NDArray[np.float64]],
    minimum_views: int,
    near: float,
) -> npt.NDArray[np.bool_]:
    """Whether a point may not hold anything.

    Args:
        centres: [N, 3] in field coordinates.
        cameras, c2f: the cameras with their [4, 4] camera-to-field poses.
        minimum_views: a point must lie inside the pictures of that many cameras (of all, if there are fewer).
        near: distance in field units around each camera that stays empty.

    Returns:
        [N] bool.
    """
    views = np.zeros(len(centres), dtype=np.int32)
    close = np.zeros(len(centres), dtype=bool)
    for camera, pose in zip(cameras, c2f, strict=True):
        pixels, depth = project(camera, pose, centres)
        inside = (depth > 0) & (pixels >= 0).all(1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
        views += inside
        close |= ((centres - pose[:3, 3]) ** 2).sum(1) < near * near
    return close | (views < min(minimum_views, len(cameras)))
