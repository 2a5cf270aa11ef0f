"""Whether photos differ in exposure or white balance, and by how much, from the sparse points that they share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import PoseSet, project
from tasks import stage_files
from tasks.context import Context
from tasks.gains import BRIGHTEST, DARKEST, solve_gains

DIFFERENT = 0.02
"""Root mean square of the gains' logarithms, over photos and channels, from which on they are fitted: 2 %."""
MOST_POINTS = 4000
MIN_VIEWS = 3
LIMIT = 1.0
"""Largest gain as a natural logarithm."""
_REACH = 1
"""Pixels around a point that are averaged: it is an edge or a corner."""


def measured_gains(poses: PoseSet, context: Context) -> npt.NDArray[np.float64] | None:
    """[N, 3] natural logarithm of each training photo's sRGB values over their mean; None without sparse points."""
    images = poses.of_split("train")
    # `poses` may lack some of the photos that the points name
    row = {image.name: k for k, image in enumerate(stage_files.read_poses(context).images)}
    points, visible = stage_files.read_points(context), stage_files.read_visibility(context, len(row))
    if points is None or visible is None or any(image.image is None for image in images):
        return None
    seen = visible[[row[image.name] for image in images]].T
    chosen = np.nonzero(seen.sum(1) >= MIN_VIEWS)[0]
    chosen = chosen[:: max(1, len(chosen) // MOST_POINTS)]
    if not len(chosen):
        return None
    values = np.zeros((len(chosen), len(images), 3))
    for k, image in enumerate(images):
        context.check()
        shown = np.nonzero(seen[chosen, k])[0]
        uv, _ = project(image.camera, image.c2w, points["xyz"][chosen[shown]])
        with Image.open(stage_files.fetch_picture(context, str(image.image))) as picture:
            values[shown, k] = _around(np.asarray(picture.convert("RGB")), uv)
    usable = ((values > DARKEST) & (values < BRIGHTEST)).all(2)
    usable &= usable.sum(1, keepdims=True) >= 2
    logs = np.log(np.maximum(values, 1.0))
    gains = np.stack([solve_gains(logs[..., channel], usable.astype(np.float64)) for channel in range(3)], 1)
    return np.asarray(np.clip(gains - gains.mean(0), -LIMIT, LIMIT))


def differ(gains: npt.NDArray[np.float64] | None) -> bool:
    """Whether photos with such gains are worth a gain each."""
    return gains is not None and float(np.sqrt(np.square(gains).mean())) > DIFFERENT


def _around(picture: npt.NDArray[np.uint8], uv: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[P, 3] mean of the pixels around places [P, 2]."""
    height, width = picture.shape[:2]
    total = np.zeros((len(uv), 3))
    for dv in range(-_REACH, _REACH + 1):
        for du in range(-_REACH, _REACH + 1):
            u = np.clip(np.floor(uv[:, 0]).astype(np.int64) + du, 0, width - 1)
            v = np.clip(np.floor(uv[:, 1]).astype(np.int64) + dv, 0, height - 1)
            total += picture[v, u]
    return np.asarray(total / (2 * _REACH + 1) ** 2)
