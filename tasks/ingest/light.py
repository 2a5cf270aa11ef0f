"""sRGB values as light and back (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]


def to_linear(values: ByteArray) -> FloatArray:
    """8-bit sRGB as light from 0 to 1."""
    value = values / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def to_srgb(light: FloatArray) -> FloatArray:
    """Light as sRGB from 0 to 255, not rounded; clipped beyond 0 and 1."""
    light = light.clip(0.0, 1.0)
    return 255.0 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
