"""What is measured on each photo to judge it beside the others: sharpness, and whether two show the same picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.floating[Any]]
ByteArray = npt.NDArray[np.uint8]

SHARPNESS_EDGE_PX = 640
"""Long edge at which sharpness is measured, so that photos of all sizes compare."""

THUMB_PX = 256
_TILES = 16
_COARSE_PX = 16
_COARSE_LEVELS = 4.0
_FLAT = 1.0
"""Squared grey levels: keeps ratios finite where a picture is flat."""


def grey(image: Image.Image, edge_px: int = SHARPNESS_EDGE_PX) -> FloatArray:
    """[H, W] grey levels 0..255 of a picture reduced to a long edge of `edge_px` pixels, never enlarged."""
    image = image.convert("L")
    scale = edge_px / max(image.size)
    if scale < 1.0:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image, dtype=np.float32)


def sharpness(grey_levels: FloatArray) -> float:
    """Fine detail over coarse detail, in the worst of four directions.

    The energy of the second difference at full size over that at a quarter of the size, for differences along x, y
    and both diagonals; the smallest of the four, because motion blurs along its own direction only. A ratio of two
    scales of one picture does not depend on contrast, exposure or how much texture there is. About 0.5 for a sharp
    photo, 0.1 for one blurred over 2 pixels, 0 for a flat one.

    Args:
        grey_levels: [H, W] as `grey` gives them.
    """
    coarse = halved(halved(grey_levels))
    if min(coarse.shape) < 3:
        return 0.0
    pairs = zip(_direction_energies(grey_levels), _direction_energies(coarse), strict=True)
    return min(fine / (broad + _FLAT) for fine, broad in pairs)


def halved(a: FloatArray) -> FloatArray:
    """[H // 2, W // 2] means of 2 x 2 pixels."""
    h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
    mean: FloatArray = (a[0:h:2, 0:w:2] + a[1:h:2, 0:w:2] + a[0:h:2, 1:w:2] + a[1:h:2, 1:w:2]) / 4
    return mean


def _direction_energies(a: FloatArray) -> list[float]:
    centre = 2 * a[1:-1, 1:-1]
    ends = (
        (a[1:-1, :-2], a[1:-1, 2:]),
        (a[:-2, 1:-1], a[2:, 1:-1]),
        (a[:-2, :-2], a[2:, 2:]),
        (a[2:, :-2], a[:-2, 2:]),
    )
    return [float(np.mean((centre - before - after) ** 2)) for before, after in ends]


def thumbnail(image: Image.Image) -> ByteArray:
    """[256, 256] grey levels of the whole picture, squeezed to a square, for `same_picture`."""
    return np.asarray(image.convert("L").resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX), dtype=np.uint8)


def same_picture(a: ByteArray, b: ByteArray, resized: bool) -> bool:
    """Whether two thumbnails show one picture, encoded or scaled anew, rather than two neighbouring views.

    The squared difference over the squared gradient is about the squared displacement in thumbnail pixels. Re-encoding
    leaves it below 0.01 and scaling below 0.2; neighbouring views of an orbit reach 10. Besides the whole picture, each
    of 16 x 16 tiles must agree, so that a small object that turned before a still background counts as another view.

    Args:
        a, b: [256, 256] as `thumbnail` gives them.
        resized: whether the two photos have different sizes in pixels.
    """
    if np.abs(_coarse(a) - _coarse(b)).max() > 3 * _COARSE_LEVELS:
        return False
    dead_zone, whole, tile = (2.0, 0.2, 2.0) if resized else (1.0, 0.02, 1.0)
    x, y = _smoothed(a.astype(np.float32)), _smoothed(b.astype(np.float32))
    difference = np.clip(np.abs(x - y) - dead_zone, 0.0, None) ** 2
    along_y, along_x = np.gradient((x + y) / 2)
    gradient: FloatArray = np.asarray(along_x**2 + along_y**2)
    if float(difference.sum()) > whole * float(gradient.sum() + _FLAT):
        return False
    size = THUMB_PX // _TILES
    ratio = _tile_sums(difference) / (_tile_sums(gradient) + _FLAT * size * size)
    return bool(ratio.max() <= tile)


def _coarse(thumb: ByteArray) -> FloatArray:
    size = THUMB_PX // _COARSE_PX
    blocks = thumb.reshape(_COARSE_PX, size, _COARSE_PX, size).mean((1, 3), dtype=np.float32)
    coarse: FloatArray = blocks
    return coarse


def _smoothed(a: FloatArray) -> FloatArray:
    """Binomial 1-2-1 along both axes: evens out how different decoders and scalers treat edges."""
    p = np.pad(a, 1, mode="edge")
    rows = (p[:-2] + 2 * p[1:-1] + p[2:]) / 4
    both: FloatArray = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return both


def _tile_sums(a: FloatArray) -> FloatArray:
    size = THUMB_PX // _TILES
    sums: FloatArray = a.reshape(_TILES, size, _TILES, size).sum((1, 3))
    return sums
