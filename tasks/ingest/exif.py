"""What a photo's metadata says about its camera. Read here, never written anywhere."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from PIL import Image

from tasks.ingest.edited import UPRIGHT, Recorded, embedded_thumbnail, is_turned_already, whole_of

EXIF_IFD = 0x8769
_MAKE, _MODEL, _ORIENTATION = 0x010F, 0x0110, 0x0112
_FOCAL_MM, _FOCAL_35MM = 0x920A, 0xA405
_PLANE_X_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_DIGITAL_ZOOM = 0xA404

_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_PLAUSIBLE = (0.2, 30.0)
"""Focal length over long edge: from a fisheye to a super telephoto lens. Anything else is a defect of the file."""


@dataclass(frozen=True)
class CameraFacts:
    """The camera as the metadata names it."""

    device: str = "||"
    """`make|model|focal`, the focal length in mm; empty where unknown."""
    focal_px: float | None = None
    """Focal length in pixels at the photo's own size."""
    orientation: int = 1
    """EXIF orientation 1..8 that still has to be applied to the decoded pixels."""
    cropped: bool = False
    """Whether the photo is a part of what the camera recorded: its optical axis may pass beside its middle."""
    note: str = ""
    """Where the metadata contradict the pixels: what was believed."""


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
    orientation, recorded, thumbnail = _orientation(tags), _recorded(tags), embedded_thumbnail(image, exif)
    turned = is_turned_already(image, orientation, recorded, thumbnail)
    whole = None
    if thumbnail is not None and turned:
        shape = None if recorded is None else recorded.turned(orientation)
        whole = whole_of(image, thumbnail.transpose(UPRIGHT[orientation]), shape)
    elif thumbnail is not None:
        whole = whole_of(image, thumbnail, recorded)
    camera = camera_of(tags, image.width, image.height, whole)
    if not turned:
        return camera
    note = f"EXIF orientation {orientation} is not applied: the pixels already stand upright"
    return replace(camera, orientation=1, note="; ".join(filter(None, (note, camera.note))))


def camera_of(
    tags: Mapping[int, object], width: int, height: int, whole: tuple[float, float] | None = None
) -> CameraFacts:
    """The facts that the fields of EXIF tell of a `width` x `height` picture.

    Args:
        whole: the size in pixels of all that the camera saw, at the picture's scale, where the picture is known to be
            a part of it.
    """
    recorded, focal_px = _recorded(tags), focal_in_pixels(tags, width, height, whole)
    cropped = whole is not None or (recorded is not None and recorded.is_cut(width, height))
    note = ""
    if cropped:
        of = f" from {recorded.width:g} x {recorded.height:g} pixels" if recorded is not None else ""
        note = f"cropped{of}: a camera of its own, " + (
            "of unknown focal length" if focal_px is None else "with the focal length of the whole photo"
        )
    return CameraFacts(
        device=f"{_text(tags.get(_MAKE))}|{_text(tags.get(_MODEL))}|{_focal_name(tags)}",
        focal_px=focal_px,
        orientation=_orientation(tags),
        cropped=cropped,
        note=note,
    )


def _orientation(tags: Mapping[int, object]) -> int:
    orientation = tags.get(_ORIENTATION, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _focal_name(tags: Mapping[int, object]) -> str:
    """`50`, or `6.8x2` where the camera enlarged the middle of its picture: that is another camera to the geometry."""
    focal_mm, zoom = _number(tags.get(_FOCAL_MM)), _number(tags.get(_DIGITAL_ZOOM)) or 1.0
    return (f"{focal_mm:g}" if focal_mm else "") + (f"x{zoom:.3g}" if zoom > 1.0 else "")


def _recorded(tags: Mapping[int, object]) -> Recorded | None:
    pixel_x, pixel_y = _number(tags.get(_PIXEL_X)), _number(tags.get(_PIXEL_Y))
    return Recorded(pixel_x, pixel_y) if pixel_x and pixel_y else None


def focal_in_pixels(
    tags: Mapping[int, object], width: int, height: int, whole: tuple[float, float] | None = None
) -> float | None:
    """Focal length in pixels of a `width` x `height` picture, or None where the tags do not tell it.

    FocalLengthIn35mmFilm is defined by the diagonal (CIPA DCG-001: 43.27 mm), so resizing does not matter to it; the
    focal plane's resolution counts pixels of the picture as it was taken. A crop shows in an aspect ratio that is not
    that of the recorded pixel dimensions: it has the focal length of the whole picture where its pixels are the
    camera's own (`tasks.ingest.edited.Recorded.is_cut_alone`), and none that is known where it was resized, too, unless
    `whole` tells how large all of the picture would be at its scale.
    """
    recorded, taken = _recorded(tags), whole or (float(width), float(height))
    if whole is None and recorded is not None and not recorded.is_whole(width, height):
        if not (recorded.is_cut(width, height) and recorded.is_cut_alone(width, height)):
            return None
        taken = (recorded.long_px, recorded.short_px)
    pixel_x, pixel_y = _number(tags.get(_PIXEL_X)), _number(tags.get(_PIXEL_Y))
    focal_mm, resolution = _number(tags.get(_FOCAL_MM)), _number(tags.get(_PLANE_X_RESOLUTION))
    unit_mm = _MM_PER_UNIT.get(int(_number(tags.get(_PLANE_UNIT)) or 2), 25.4)
    focal_px, long_px, picture_px = None, max(taken), max(width, height)
    if film_mm := _number(tags.get(_FOCAL_35MM)):
        focal_px = film_mm / _FILM_DIAGONAL_MM * math.hypot(*taken)
    elif focal_mm and resolution:
        taken_long_px = max(pixel_x or width, pixel_y or height)
        if whole is not None and recorded is not None and recorded.is_size_of(width, height):
            taken_long_px = long_px  # an editor wrote the size of the part
        focal_px = focal_mm * resolution / unit_mm * long_px / taken_long_px
    if focal_px is None or not _PLAUSIBLE[0] <= focal_px / picture_px <= _PLAUSIBLE[1]:
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
