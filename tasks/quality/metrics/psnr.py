"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def mse(prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Mean squared error over the pixels of a mask and their channels: sum (p - t)^2 / (C |mask|).

    Args:
        prediction, target: [H, W, C] of one scale.
        mask: [H, W] bool; every pixel if None.

    Returns:
        NaN for an empty mask.

    >>> mse([[[0.5], [0.0]]], [[[0.0], [0.0]]])
    0.125
    >>> mse([[[0.5], [0.0]]], [[[0.0], [0.0]]], mask=[[True, False]])
    0.25
    """
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if p.shape != t.shape or p.ndim != 3:
        raise ValueError(f"expected two arrays [H, W, C] of one shape, found {p.shape} and {t.shape}")
    squared = (p - t) ** 2
    if mask is not None:
        squared = squared[np.asarray(mask, dtype=bool)]
    return float(squared.mean()) if squared.size else math.nan


def psnr(
    prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None, data_range: float = 1.0
) -> float:
    """PSNR = 10 log10(data_range^2 / MSE), in dB, over the pixels of a mask.

    Args:
        prediction, target: [H, W, C], values from 0 to `data_range`.
        mask: [H, W] bool; every pixel if None.

    Returns:
        dB; inf where both are equal, NaN for an empty mask.

    >>> round(psnr([[[0.6]]], [[[0.5]]]), 6)
    20.0
    """
    error = mse(prediction, target, mask)
    if error == 0.0:
        return math.inf
    return 10.0 * math.log10(data_range**2 / error) if error > 0 else math.nan
