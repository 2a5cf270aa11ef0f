"""The similarity between the capture's frame and the truth's, from camera centres alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.artifacts import TRUTH_CAMERAS_FILE
from models.camera import Matrix4, PosedImage, apply_similarity_to_c2w, matrix4, similarity_scale, transform_points
from models.errors import DigitizeError, ReasonCode

FloatArray = npt.NDArray[np.float64]

MINIMUM_SPREAD = 0.01
"""Least ratio of the second to the first principal extent of the centres: below, the turn about their line is free."""


class Alignment(NamedTuple):
    """How the capture lies in the truth's frame."""

    truth_from_capture: Matrix4
    scale: float
    """Lengths in the truth's frame for one in the capture's."""
    cameras: int
    centre_rms: float
    """Root mean square distance of the aligned centres to the true ones, in the truth's unit."""
    rotation_mean_deg: float
    """Mean angle between aligned and true orientations of the cameras."""


def umeyama(source: npt.ArrayLike, target: npt.ArrayLike) -> FloatArray:
    """The similarity that takes `source` to `target` with least squares (Umeyama 1991, eq. 40-42).

    Args:
        source, target: [N, 3] paired points, N >= 3 and not on a line.

    Returns:
        [4, 4] with a rotation (never a reflection) and a uniform scale.

    Raises:
        ValueError: too few points, or points on a line.
    """
    x, y = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 3 or len(x) < 3:
        raise ValueError(f"expected two arrays [N >= 3, 3], found {x.shape} and {y.shape}")
    mean_x, mean_y = x.mean(0), y.mean(0)
    for points in (x - mean_x, y - mean_y):
        extent = np.linalg.svd(points, compute_uv=False)
        if not extent[1] > MINIMUM_SPREAD * extent[0]:
            raise ValueError(f"points on a line: principal extents {extent[0]:.3g} and {extent[1]:.3g}")
    covariance = (y - mean_y).T @ (x - mean_x) / len(x)
    u, d, vt = np.linalg.svd(covariance)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float(d @ sign) / float(((x - mean_x) ** 2).sum(1).mean())
    result = np.eye(4)
    result[:3, :3] = scale * rotation
    result[:3, 3] = mean_y - scale * rotation @ mean_x
    return result


def align(captured: Sequence[PosedImage], true: Sequence[PosedImage]) -> Alignment:
    """Umeyama on the centres of the cameras that both sets name.

    Raises:
        DigitizeError(truth_invalid): fewer than three names in common, or centres on a line.
    """
    by_name = {image.name: image for image in true}
    pairs = [(image, by_name[image.name]) for image in captured if image.name in by_name]
    if len(pairs) < 3:
        raise DigitizeError(
            ReasonCode.TRUTH_INVALID,
            f"expected at least 3 registered photos with a true camera of the same name, found {len(pairs)}",
            path=TRUTH_CAMERAS_FILE,
        )
    source, target = (np.stack([pair[k].centre for pair in pairs]) for k in (0, 1))
    try:
        similarity = umeyama(source, target)
    except ValueError as error:
        message = f"expected camera centres that fix a frame, found {error}"
        raise DigitizeError(ReasonCode.TRUTH_INVALID, message, path=TRUTH_CAMERAS_FILE) from error
    residual = np.linalg.norm(transform_points(similarity, source) - target, axis=1)
    angles = [_angle_deg(apply_similarity_to_c2w(similarity, a.c2w), np.array(b.c2w)) for a, b in pairs]
    return Alignment(
        truth_from_capture=matrix4(similarity),
        scale=similarity_scale(similarity),
        cameras=len(pairs),
        centre_rms=float(np.sqrt((residual**2).mean())),
        rotation_mean_deg=float(np.mean(angles)),
    )


def _angle_deg(a: FloatArray, b: FloatArray) -> float:
    """Angle between two orientations, exact also near zero where arccos of the trace is not."""
    chord = np.linalg.norm(a[:3, :3] - b[:3, :3]) / (2.0 * np.sqrt(2.0))
    return float(np.degrees(2.0 * np.arcsin(min(1.0, chord))))
