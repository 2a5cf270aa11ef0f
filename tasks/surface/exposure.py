"""One gain for each photo and channel, so that photos of different exposure agree where they overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import ByteArray, FloatArray
from tasks.gains import BRIGHTEST, DARKEST, solve_gains
from tasks.surface.weights import VertexViews

LIMIT = 1.0
"""Largest correction as a natural logarithm."""


def linear_from_srgb(value: FloatArray) -> FloatArray:
    """Linear light in [0, 1] of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(value: FloatArray) -> FloatArray:
    """sRGB values in [0, 1] of linear light."""
    light = np.clip(value, 0.0, 1.0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def log_gains(samples: VertexViews) -> FloatArray:
    """[C, 3] natural logarithm of each photo's exposure relative to the mean, by robust least squares.

    The colour of a vertex in photo c is taken as its own colour times gain c; the colours are eliminated, which
    leaves one equation a photo. Clear views alone count, and outliers (highlights) lose their weight (Huber).
    """
    count = samples.weight.shape[1]
    gains = np.zeros((count, 3))
    light = np.log(linear_from_srgb(np.arange(256) / 255.0) + 1e-6)
    for channel in range(3):
        value = samples.rgb[..., channel]
        usable = samples.safe & (value > DARKEST) & (value < BRIGHTEST)
        usable &= usable.sum(1, keepdims=True) >= 2
        rows = np.nonzero(usable.any(1))[0]
        if len(rows) == 0:
            continue
        rows = rows[:: max(1, len(rows) // 20_000)]
        logs, base = light[value[rows]], np.where(usable[rows], samples.weight[rows], 0.0).astype(np.float64)
        base /= base.max(1, keepdims=True) + 1e-12
        gains[:, channel] = solve_gains(logs, base)
    limited: FloatArray = np.clip(gains - gains.mean(0), -LIMIT, LIMIT)
    return limited


def correction(log_gain: FloatArray) -> tuple[ByteArray, npt.NDArray[np.bool_]]:
    """Tables [256, 3] of one photo: its sRGB values with the gain [3] taken out; whether the sensor was clipped."""
    light = linear_from_srgb(np.arange(256) / 255.0)[:, None] * np.exp(-log_gain)[None]
    table = np.floor(srgb_from_linear(light) * 255.0 + 0.5).astype(np.uint8)
    clipped = np.broadcast_to((np.arange(256) >= 254)[:, None], (256, 3))
    return table, clipped
