"""Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004), with masks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SIGMA = 1.5
"""Standard deviation of the window in pixels; its radius is 3.5 sigma: 11 x 11 pixels."""
K1, K2 = 0.01, 0.03


def ssim_map(
    prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None, data_range: float = 1.0
) -> FloatArray:
    """SSIM of each pixel: [H, W], the mean over channels.

    (2 mu_p mu_t + C1)(2 cov_pt + C2) / ((mu_p^2 + mu_t^2 + C1)(var_p + var_t + C2)), moments weighted by a Gaussian
    window, C1 = (0.01 L)^2, C2 = (0.03 L)^2 (eq. 13). The window sees pixels of the mask (and picture) alone: its
    weights are divided by their sum there, so nothing outside the mask counts. NaN outside the mask.

    Args:
        prediction, target: [H, W, C], values from 0 to `data_range`.
        mask: [H, W] bool; every pixel if None.
    """
    from scipy.ndimage import gaussian_filter

    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if p.shape != t.shape or p.ndim != 3:
        raise ValueError(f"expected two arrays [H, W, C] of one shape, found {p.shape} and {t.shape}")
    inside = np.ones(p.shape[:2], dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    weight = gaussian_filter(inside.astype(np.float64), SIGMA, mode="constant", truncate=3.5)

    def mean(values: FloatArray) -> FloatArray:
        summed = gaussian_filter(
            np.where(inside[..., None], values, 0.0), (SIGMA, SIGMA, 0), mode="constant", truncate=3.5
        )
        averaged: FloatArray = summed / np.maximum(weight, 1e-12)[..., None]
        return averaged

    mean_p, mean_t = mean(p), mean(t)
    var_p, var_t = mean(p * p) - mean_p**2, mean(t * t) - mean_t**2
    covariance = mean(p * t) - mean_p * mean_t
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    top = (2 * mean_p * mean_t + c1) * (2 * covariance + c2)
    bottom = (mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2)
    result: FloatArray = np.where(inside, (top / bottom).mean(-1), math.nan)
    return result


def ssim(
    prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None, data_range: float = 1.0
) -> float:
    """Mean of `ssim_map` over the mask, from -1 to 1; NaN for an empty mask.

    >>> import numpy as np
    >>> picture = np.linspace(0, 1, 192).reshape(8, 8, 3)
    >>> round(ssim(picture, picture), 6)
    1.0
    """
    values = ssim_map(prediction, target, mask, data_range)
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else math.nan
