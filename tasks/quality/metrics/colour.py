"""One affine colour correction a picture: what exposure and white balance differ by is not the shape's fault."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
LEAST_PIXELS = 64
"""Pixels below which nothing is corrected: a fit would follow the noise."""


def colour_corrected(prediction: npt.ArrayLike, target: npt.ArrayLike, fit: npt.ArrayLike) -> FloatArray:
    """The prediction after the affine map of colours (3 x 4, one for the picture) that brings it nearest to the target.

    Least squares over the pixels of `fit`; the map is applied there alone, so that what is missing stays missing.

    Args:
        prediction, target: [H, W, 3] in [0, 1].
        fit: [H, W] bool, the pixels that both show.

    Returns:
        [H, W, 3], clipped to [0, 1] where it was corrected.

    >>> grey = np.linspace(0.2, 0.6, 300).reshape(10, 10, 3)
    >>> darker = 0.5 * grey + 0.1
    >>> bool(np.allclose(colour_corrected(grey, darker, np.ones((10, 10), bool)), darker))
    True
    """
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    inside = np.asarray(fit, dtype=bool)
    if p.shape != t.shape or p.shape[2:] != (3,) or inside.shape != p.shape[:2]:
        raise ValueError(f"expected [H, W, 3] twice and [H, W], found {p.shape}, {t.shape} and {inside.shape}")
    corrected = p.copy()
    if int(inside.sum()) < LEAST_PIXELS:
        return corrected
    colours = np.concatenate([p[inside], np.ones((int(inside.sum()), 1))], 1)
    affine, *_ = np.linalg.lstsq(colours, t[inside], rcond=None)
    corrected[inside] = np.clip(colours @ affine, 0.0, 1.0)
    return corrected
