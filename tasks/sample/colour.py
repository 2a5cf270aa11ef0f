"""Linear light and its sRGB code (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.sample.noise import Float32Array, FloatArray


def to_srgb(linear: npt.NDArray[np.floating]) -> FloatArray:
    """Linear light to sRGB, both in [0, 1]; values outside are clipped."""
    x = np.clip(linear, 0.0, 1.0)
    return np.asarray(np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-8) ** (1 / 2.4) - 0.055))


def to_linear(srgb: npt.NDArray[np.floating]) -> FloatArray:
    """SRGB to linear light, both in [0, 1]."""
    return np.asarray(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4))


LINEAR: Float32Array = to_linear(np.arange(256) / 255.0).astype(np.float32)
"""[256] linear light of each 8-bit sRGB code."""
