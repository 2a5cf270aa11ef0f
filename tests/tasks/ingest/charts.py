"""Photos of a colour chart, rendered: in perspective, before clutter, under any light, with noise."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from tasks.ingest.chart import homography, project, reference_light
from tasks.ingest.light import to_srgb

FloatArray = npt.NDArray[np.float64]
_FRAME, _PATCH, _CARD = 0.6, 0.86, 0.022
"""Width of the frame beside the outer patches and edge of a patch, in distances between patches; light of the card."""
_SAMPLES = 3
"""Along an edge of a pixel."""


def clutter(size: tuple[int, int], seed: int, rectangles: int = 120) -> FloatArray:
    """[H, W, 3] light of a wall of soft texture with many flat rectangles on it, turned in all ways."""
    width, height = size
    rng = np.random.default_rng(seed)
    wall = ndimage.gaussian_filter(rng.uniform(0.0, 1.0, (height, width, 3)), (6, 6, 0))
    wall = 0.25 + 1.5 * (wall - 0.5)
    y, x = np.mgrid[:height, :width]
    for _ in range(rectangles):
        cx, cy, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, np.pi)
        half = rng.uniform(4, 40, 2)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        wall[(np.abs(u) < half[0]) & (np.abs(v) < half[1])] = rng.uniform(0.02, 0.9, 3)
    return wall.clip(0.01, 1.0)


def placed(
    centre: tuple[float, float], width: float, angle: float = 0.0, tilt: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    """[3, 3] from (column, row) of the chart to pixels: a card of `width` pixels, turned by `angle` degrees, and tilted
    so that its sides differ by about the shares `tilt`."""
    step, turn = width / (5 + 2 * _FRAME), np.deg2rad(angle)
    flat = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    scaled = np.diag([step, step, 1.0]) @ np.array([[1, 0, -2.5], [0, 1, -1.5], [0, 0, 1]])
    leaning = np.array([[1, 0, 0], [0, 1, 0], [tilt[0] / width, tilt[1] / width, 1]])
    return np.array([[1, 0, centre[0]], [0, 1, centre[1]], [0, 0, 1]]) @ leaning @ flat @ scaled


def draw(wall: FloatArray, laid: FloatArray, colours: FloatArray | None = None) -> FloatArray:
    """[H, W, 3] the wall with a chart before it; `colours` [24, 3] instead of the chart's own."""
    light = reference_light() if colours is None else colours
    height, width = wall.shape[:2]
    back = np.linalg.inv(laid)
    total = np.zeros_like(wall)
    for k in range(_SAMPLES**2):
        shift = (np.array(divmod(k, _SAMPLES)) + 0.5) / _SAMPLES
        x, y = np.meshgrid(np.arange(width) + shift[0], np.arange(height) + shift[1])
        column, row = project(back * np.sign(np.linalg.det(back)), np.stack([x, y], -1).reshape(-1, 2)).T
        column, row = column.reshape(height, width), row.reshape(height, width)
        with np.errstate(invalid="ignore"):
            near = np.round(np.nan_to_num(column, nan=99.0)), np.round(np.nan_to_num(row, nan=99.0))
            on_card = (np.abs(column - 2.5) < 2.5 + _FRAME) & (np.abs(row - 1.5) < 1.5 + _FRAME)
            on_patch = np.maximum(np.abs(column - near[0]), np.abs(row - near[1])) < _PATCH / 2
        inside = on_card & on_patch & (near[0] >= 0) & (near[0] < 6) & (near[1] >= 0) & (near[1] < 4)
        seen = wall.copy()
        seen[on_card] = _CARD
        seen[inside] = light[(near[1][inside] * 6 + near[0][inside]).astype(int)]
        total += seen
    return total / _SAMPLES**2


def photograph(
    light: FloatArray,
    lamp: tuple[float, ...] = (1.0, 1.0, 1.0),
    noise: float = 2.0,
    curve: float = 1.0,
    blur: float = 0.6,
) -> Image.Image:
    """The photo of a scene [H, W, 3] under a lamp, as a JPEG is decoded.

    Args:
        noise: standard deviation in 8-bit values.
        curve: power of the camera's tone curve on top of sRGB's: 1 has none.
    """
    seen = ndimage.gaussian_filter(light * lamp, (blur, blur, 0)).clip(0, 1)
    picture = to_srgb(seen) / 255
    picture = 255 * picture**curve + np.random.default_rng(3).normal(0, noise, light.shape)
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).round().astype(np.uint8)).save(file, "JPEG", quality=92)
    return Image.open(file).convert("RGB")


__all__ = ["clutter", "draw", "homography", "photograph", "placed"]
