"""Precision, recall and F-score of a surface (Knapitsch et al. 2017, Tanks and Temples, eq. 3-5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class FScore(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float
    fscore: float


def fscore(to_truth: npt.ArrayLike, to_prediction: npt.ArrayLike, threshold: float) -> FScore:
    """F = 2 P R / (P + R), P and R the shares of distances below the threshold.

    Args:
        to_truth: [N] distances from samples of the prediction to the true surface (precision).
        to_prediction: [M] distances from samples of the true surface to the prediction (recall).
        threshold: in the distances' unit.

    Returns:
        zeros on a side without samples.

    >>> fscore([0.1, 0.9], [0.1, 0.2], threshold=0.5)
    FScore(precision=0.5, recall=1.0, fscore=0.6666666666666666)
    """
    p, r = (
        float((x < threshold).mean()) if x.size else 0.0
        for x in (np.asarray(to_truth, dtype=np.float64), np.asarray(to_prediction, dtype=np.float64))
    )
    return FScore(p, r, 2.0 * p * r / (p + r) if p + r > 0 else 0.0)
