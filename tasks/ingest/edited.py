"""What an editor did to a photo without correcting its EXIF: turned pixels, and crops.

EXIF names the size of the picture that the camera wrote (PixelXDimension, PixelYDimension), and holds a thumbnail of
it, both as the sensor stands. Editors that change the pixels often leave all of that as it was. So a picture that shows
its thumbnail turned was turned after it was taken; one of another shape than recorded, or that shows a part of its
thumbnail, was cut.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

FloatArray = npt.NDArray[np.floating[Any]]

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""
SHAPE_TOLERANCE = 0.02
"""Relative difference of two aspect ratios that rounding and lens corrections explain."""
_EDGE_TOLERANCE = 0.005
"""Relative difference between an edge and the recorded one that still is the whole edge."""
_COMPARED_PX = 48
_ALIKE, _MARGIN = 0.8, 0.1
"""Correlation of a picture with its thumbnail, and how much better than in any other turn."""
_WHOLE = 0.9
"""Correlation with its thumbnail above which a picture is not looked for inside it. Unedited ones reach 0.97."""
_CUT_ALIKE, _CUT_MARGIN = 0.9, 0.15
"""Correlation of a cut picture with a part of its thumbnail, and how much better than with all of it."""
_CUT_SHARES = np.geomspace(0.98, 0.3, 36)
"""Shares of the thumbnail that are looked at; smaller parts have too few pixels there."""
_CLOSER = np.linspace(0.975, 1.025, 11)
"""What the best share is varied by then."""
_LEAST_PART_PX = 16
_BLACK = 16
_THUMB_AT, _THUMB_LENGTH, _ORIENTATION = 0x0201, 0x0202, 0x0112
_MOST_THUMB_BYTES = 1 << 20
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, OverflowError)


@dataclass(frozen=True)
class Recorded:
    """The size in pixels of the picture that the camera wrote, as EXIF names it."""

    width: float
    height: float

    def is_turned(self, width: int, height: int) -> bool:
        """Whether a `width` x `height` picture is this one on its side. Never of a nearly square one."""
        if abs(self.width / self.height - 1.0) <= SHAPE_TOLERANCE:
            return False
        return _alike(width / height, self.height / self.width) and not _alike(width / height, self.width / self.height)

    def is_whole(self, width: int, height: int) -> bool:
        """Whether a picture has this shape, at any size and in any turn."""
        return _alike(max(width, height) / min(width, height), self.long_px / self.short_px)

    def is_cut(self, width: int, height: int) -> bool:
        """Whether a picture is a part of this one: of another shape, and no edge is longer."""
        inside = max(width, height) <= self.long_px * (1 + _EDGE_TOLERANCE)
        inside = inside and min(width, height) <= self.short_px * (1 + _EDGE_TOLERANCE)
        return inside and not self.is_whole(width, height)

    def is_cut_alone(self, width: int, height: int) -> bool:
        """Whether a cut picture was not resized, too: one edge is whole, so that its pixels are the camera's.

        Where both edges are shorter, how much of that is the cut and how much a new size cannot be told.
        """
        edges = {self.long_px, self.short_px}
        return any(abs(edge / whole - 1.0) <= _EDGE_TOLERANCE for edge in (width, height) for whole in edges)

    def turned(self, orientation: int) -> Recorded:
        """The size after an EXIF orientation is applied."""
        return Recorded(self.height, self.width) if orientation >= 5 else self

    def is_size_of(self, width: int, height: int) -> bool:
        """Whether a picture has this size, in any turn."""
        return sorted((width, height)) == sorted((self.width, self.height))

    @property
    def long_px(self) -> float:
        """The long edge."""
        return max(self.width, self.height)

    @property
    def short_px(self) -> float:
        """The short edge."""
        return min(self.width, self.height)


def is_turned_already(
    image: Image.Image, orientation: int, recorded: Recorded | None, thumbnail: Image.Image | None
) -> bool:
    """Whether the pixels already stand as the EXIF orientation would turn them.

    The thumbnail decides where it shows the picture in one turn clearly; then the recorded size, which tells quarter
    turns of pictures that are not square. Without either EXIF is believed.

    Args:
        image: decoded as stored.
        orientation: EXIF's, 1..8.
    """
    if orientation not in UPRIGHT:
        return False
    if thumbnail is not None and (turn := turn_of(image, thumbnail)) is not None:
        # a thumbnail that the camera itself wrote upright shows the inverse turn: the picture still has to be turned
        return turn == orientation
    return orientation >= 5 and recorded is not None and recorded.is_turned(*image.size)


def turn_of(image: Image.Image, thumbnail: Image.Image) -> int | None:
    """The EXIF orientation 1..8 that turns the thumbnail as the picture stands; None where no turn is clearly best."""
    picture = _compared(image)
    scores = {}
    for turn in range(1, 9):
        turned = thumbnail if turn == 1 else thumbnail.transpose(UPRIGHT[turn])
        scores[turn] = _correlation(picture, _compared(_without_bars(turned, image.width / image.height)))
    best, second = sorted(scores, key=lambda turn: -scores[turn])[:2]
    return best if scores[best] >= _ALIKE and scores[best] - scores[second] >= _MARGIN else None


def whole_of(image: Image.Image, thumbnail: Image.Image, recorded: Recorded | None) -> tuple[float, float] | None:
    """The size in pixels that a cut picture had before it was cut, at its own scale; None where it shows all of its
    thumbnail, or cannot be found in it.

    Args:
        image, thumbnail, recorded: turned alike.
    """
    original = image.width
    if recorded is not None:
        thumbnail = _without_bars(thumbnail, recorded.width / recorded.height)
    everything = _correlation(_compared(image), _compared(thumbnail))
    if everything >= _WHOLE:
        return None
    image = image.reduce(max(1, min(image.size) // (2 * max(thumbnail.size))))
    shrunk = original / image.width
    levels = np.asarray(thumbnail.convert("L"), dtype=np.float64)
    fits = min(thumbnail.width / image.width, thumbnail.height / image.height)
    _, scale = _best_scale(levels, image, fits * _CUT_SHARES)
    alike, scale = _best_scale(levels, image, scale * _CLOSER)
    if alike < _CUT_ALIKE or alike - everything < _CUT_MARGIN:
        return None
    return shrunk * thumbnail.width / scale, shrunk * thumbnail.height / scale


def _best_scale(levels: FloatArray, image: Image.Image, scales: FloatArray) -> tuple[float, float]:
    """The highest correlation of the picture, made small, with any place of `levels`, and the scale that gives it."""
    found = [(0.0, float(scales[0]))]
    for scale in scales:
        size = (round(image.width * scale), round(image.height * scale))
        if min(size) >= _LEAST_PART_PX and size[0] <= levels.shape[1] and size[1] <= levels.shape[0]:
            found.append((_best_place(levels, _small(image, size)), float(scale)))
    return max(found)


def _best_place(levels: FloatArray, part: FloatArray) -> float:
    """The highest correlation of a part [h, w] with any window of its size inside `levels` [H, W] (Lewis 1995)."""
    height, width = part.shape
    part = part - part.mean()
    across = np.fft.irfft2(np.fft.rfft2(levels) * np.conj(np.fft.rfft2(part, levels.shape)), levels.shape)
    rows, columns = levels.shape[0] - height + 1, levels.shape[1] - width + 1
    sums, squares = _window_sums(levels, height, width), _window_sums(levels**2, height, width)
    spread = np.sqrt(np.maximum(squares - sums**2 / part.size, 1.0))
    return float((across[:rows, :columns] / spread).max()) / max(float(np.linalg.norm(part)), 1.0)


def _window_sums(values: FloatArray, height: int, width: int) -> FloatArray:
    table = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums: FloatArray = table[height:, width:] - table[:-height, width:] - table[height:, :-width]
    sums += table[:-height, :-width]
    return sums


def embedded_thumbnail(image: Image.Image, exif: Image.Exif) -> Image.Image | None:
    """The thumbnail in a picture's EXIF; None where there is none or it is damaged."""
    data = image.info.get("exif")
    if not isinstance(data, bytes):
        return None
    try:
        tags: Mapping[int, Any] = exif.get_ifd(ExifTags.IFD.IFD1)
        if tags.get(_ORIENTATION, exif.get(_ORIENTATION, 1)) != exif.get(_ORIENTATION, 1):
            return None  # it stands otherwise than the picture was taken: what it shows proves nothing
        start, length = int(tags[_THUMB_AT]), int(tags[_THUMB_LENGTH])
        if start < 0 or not 0 < length <= _MOST_THUMB_BYTES:
            return None
        data = data.removeprefix(b"Exif\0\0")[start : start + length]
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as thumbnail:
            if thumbnail.width * thumbnail.height > _MOST_THUMB_BYTES:
                return None
            return thumbnail.convert("L")
    except _DAMAGED:
        return None


def _alike(a: float, b: float) -> bool:
    return abs(a / b - 1.0) <= SHAPE_TOLERANCE


def _without_bars(thumbnail: Image.Image, aspect: float) -> Image.Image:
    """The middle of a thumbnail in the picture's shape, where the rest is black: cameras fill 160 x 120 pixels up."""
    width, height = min(thumbnail.width, thumbnail.height * aspect), min(thumbnail.height, thumbnail.width / aspect)
    left, top = round((thumbnail.width - width) / 2), round((thumbnail.height - height) / 2)
    right, bottom = thumbnail.width - left, thumbnail.height - top
    levels = np.asarray(thumbnail.convert("L"))
    bars = (levels[:top], levels[bottom:], levels[:, :left], levels[:, right:])
    if any(bar.size and bar.mean() > _BLACK for bar in bars):
        return thumbnail
    return thumbnail.crop((left, top, right, bottom))


def _compared(image: Image.Image) -> FloatArray:
    """[48, 48] grey levels without their mean."""
    levels = _small(image, (_COMPARED_PX, _COMPARED_PX))
    centred: FloatArray = levels - levels.mean()
    return centred


def _small(image: Image.Image, size: tuple[int, int]) -> FloatArray:
    """[H, W] grey levels of a picture made small."""
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    return np.asarray(small, dtype=np.float64)


def _correlation(a: FloatArray, b: FloatArray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / size if size > 1e-6 else 0.0
