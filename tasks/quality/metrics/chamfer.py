"""Chamfer distance from one-sided distances."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def chamfer(to_truth: npt.ArrayLike, to_prediction: npt.ArrayLike, diagonal: float) -> float:
    """Chamfer = (mean(to_truth) + mean(to_prediction)) / (2 diagonal); distances are not squared.

    Args:
        to_truth: [N] distances from samples of the prediction to the true surface.
        to_prediction: [M] distances from samples of the true surface to the prediction, same unit.
        diagonal: of the true bounding box, same unit.

    Returns:
        a share of the diagonal; inf when one side has no samples.

    >>> round(chamfer([0.1, 0.3], [0.4], diagonal=2.0), 9)
    0.15
    """
    p, t = np.asarray(to_truth, dtype=np.float64), np.asarray(to_prediction, dtype=np.float64)
    if not p.size or not t.size:
        return math.inf
    return float((p.mean() + t.mean()) / (2.0 * diagonal))
