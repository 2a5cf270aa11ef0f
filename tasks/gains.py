"""How much brighter one photo is than another, from places that several photos show: robust least squares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
DARKEST, BRIGHTEST = 8, 247
"""sRGB values between which a pixel tells the exposure: neither noise nor clipped."""
ROUNDS = 4


def solve_gains(logs: FloatArray, weight: FloatArray) -> FloatArray:
    """[C] natural logarithm of each photo's gain; photos that share nothing with others keep 0.

    What a place shows in photo c is taken as its own value times gain c; the values are eliminated, which leaves one
    equation a photo. Outliers (highlights, shadows that move) lose their weight (Huber).

    Args:
        logs: [V, C] natural logarithm of what photo c shows at place v.
        weight: [V, C] how much that counts; 0 where the photo does not show the place.
    """
    count = logs.shape[1]
    current, gain = weight, np.zeros(count)
    for _ in range(ROUNDS):
        total = np.maximum(current.sum(1), 1e-12)
        mean = (current * logs).sum(1) / total
        system = np.diag(current.sum(0)) - current.T @ (current / total[:, None])
        # photos that overlap with nothing keep gain 1; the others are hardly held
        system += np.eye(count) * (1e-3 * np.trace(system) / count + 1e-9)
        gain = np.linalg.solve(system, (current * (logs - mean[:, None])).sum(0))
        corrected = logs - gain
        residual = np.abs(corrected - ((current * corrected).sum(1) / total)[:, None])
        scale = max(float(np.median(residual[weight > 0])) * 1.5, 1e-3)
        current = weight * np.minimum(1.0, scale / np.maximum(residual, 1e-12))
    return gain
