"""Agreement of surface normals."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def normal_consistency(normals: npt.ArrayLike, nearest: npt.ArrayLike) -> float:
    """Mean |n . m| over samples, n the sample's unit normal, m that of the nearest place on the other surface.

    The sign is left out as in Mescheder et al. 2019 (Occupancy Networks): which side is outside is checked elsewhere.

    Args:
        normals, nearest: [N, 3] unit vectors.

    Returns:
        a number in [0, 1]; NaN without samples.

    >>> normal_consistency([[0, 0, 1], [0, 0, 1]], [[0, 0, -1], [1, 0, 0]])
    0.5
    """
    a, b = np.asarray(normals, dtype=np.float64), np.asarray(nearest, dtype=np.float64)
    return float(np.abs(np.sum(a * b, axis=1)).mean()) if len(a) else math.nan
