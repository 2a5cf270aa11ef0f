"""What a photo's metadata says about its camera. Read here, never written anywhere."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

EXIF_IFD = 0x8769
_MAKE, _MODEL, _ORIENTATION = 0x010F, 0x0110, 0x0112
_FOCAL_MM, _FOCAL_35MM = 0x920A, 0xA405
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003

_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_PLAUSIBLE = (0.2, 30.0)
"""Focal length over long edge: from a fisheye to a super telephoto lens. Anything else is a defect of the file."""
_CROP_TOLERANCE = 0.02


@dataclass(frozen=True)
class CameraFacts:
    """The camera as the metadata names it."""

    device: str = "||"
    """`make|model|focal`, the focal length in mm; empty where unknown."""
    focal_px: float | None = None
    """Focal length in pixels at the photo's own size."""
    orientation: int = 1
    """EXIF orientation 1..8 that still has to be applied to the decoded pixels."""


def read_camera(image: Image.Image) -> CameraFacts:
    """The facts of a photo. Damaged metadata counts as none: it does not make the picture unusable.

    Args:
        image: decoded as stored, not yet turned upright.
    """
    try:
        exif = image.getexif()
        tags = dict(exif) | dict(exif.get_ifd(EXIF_IFD))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, OverflowError):
        return CameraFacts()
    return camera_of(tags, image.width, image.height)


def camera_of(tags: Mapping[int, object], width: int, height: int) -> CameraFacts:
    """The facts that the fields of EXIF tell of a `width` x `height` picture."""
    focal_mm = _number(tags.get(_FOCAL_MM))
    orientation = tags.get(_ORIENTATION, 1)
    focal_name = f"{focal_mm:g}" if focal_mm else ""
    return CameraFacts(
        device=f"{_text(tags.get(_MAKE))}|{_text(tags.get(_MODEL))}|{focal_name}",
        focal_px=focal_in_pixels(tags, width, height),
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
    )


def focal_in_pixels(tags: Mapping[int, object], width: int, height: int) -> float | None:
    """Focal length in pixels of a `width` x `height` picture, or None where the tags do not tell it.

    FocalLengthIn35mmFilm is defined by the diagonal (CIPA DCG-001: 43.27 mm), so resizing does not matter to it; the
    focal plane's resolution counts pixels of the picture as it was taken. Neither holds for a crop, which shows in an
    aspect ratio that is not that of the recorded pixel dimensions.
    """
    pixel_x, pixel_y = _number(tags.get(_PIXEL_X)), _number(tags.get(_PIXEL_Y))
    long_px, short_px = max(width, height), min(width, height)
    if pixel_x and pixel_y:
        recorded = max(pixel_x, pixel_y) / min(pixel_x, pixel_y)
        if abs(recorded * short_px / long_px - 1.0) > _CROP_TOLERANCE:
            return None
    focal_mm, resolution = _number(tags.get(_FOCAL_MM)), _number(tags.get(_PLANE_X_RESOLUTION))
    unit_mm = _MM_PER_UNIT.get(int(_number(tags.get(_PLANE_UNIT)) or 2), 25.4)
    focal_px = None
    if film_mm := _number(tags.get(_FOCAL_35MM)):
        focal_px = film_mm / _FILM_DIAGONAL_MM * math.hypot(width, height)
    elif focal_mm and resolution:
        taken_long_px = max(pixel_x or width, pixel_y or height)
        focal_px = focal_mm * resolution / unit_mm * long_px / taken_long_px
    if focal_px is None or not _PLAUSIBLE[0] <= focal_px / long_px <= _PLAUSIBLE[1]:
        return None
    return focal_px


def _number(value: object) -> float | None:
    """A positive finite number, or None: tags hold rationals with a zero denominator, tuples and text."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _text(value: object) -> str:
    """Printable ASCII without the separator, at most 60 characters."""
    return re.sub(r"[^ -{}~]+", "", value).strip()[:60] if isinstance(value, str) else ""
