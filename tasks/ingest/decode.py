"""One image file -> an upright 8-bit sRGB picture, its alpha, and what it says about its camera."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, UnidentifiedImageError

from models.errors import DigitizeError, ReasonCode
from models.media import HEAD, Kind, kind_of, what_is
from tasks.ingest import raw
from tasks.ingest.edited import UPRIGHT
from tasks.ingest.exif import CameraFacts, read_camera
from tasks.ingest.refusals import image_bomb, undecodable

JPEG_QUALITY = 97

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "HEIF")
"""JPEG includes the multi-picture files of phones: their first picture is the photo."""
_MOST_PICTURES = 64
"""Of one file that are looked at."""
_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_PLAIN = ("1", "L", "P", "RGB", "RGBX", "RGBA", "RGBa", "LA", "La", "PA", "CMYK", "YCbCr")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, RuntimeError, OverflowError)
"""What Pillow and libheif raise on damaged files, besides the two errors below."""
_OPENING = threading.Lock()
"""Guards the registration of HEIF and the filter of warnings, both global to the process."""


@dataclass(frozen=True)
class Decoded:
    """One photo at its own size."""

    image: Image.Image
    """Upright, RGB, 8-bit sRGB, `info` empty."""
    alpha: Image.Image | None
    """Upright, L, of the same size; None where every pixel is opaque."""
    camera: CameraFacts
    """`orientation` is already applied."""
    note: str = ""
    """What somebody who knows the file may not expect."""


def decode(path: Path, name: str, max_pixels: int) -> Decoded:
    """Decode a photo completely.

    Args:
        name: what errors call the file.
        max_pixels: larger pictures are refused by their header, before any pixel is decoded.

    What a file is, its content says: a raw photo under another suffix is developed, and a JPEG that calls itself a raw
    photo is read as a JPEG.

    Raises DigitizeError(image_bomb, undecodable, unsupported_format or missing_dependency).
    """
    named_raw, found_raw = kind_of(name) is Kind.RAW, raw.format_of(path)
    if found_raw:
        developed = raw.develop(path, name, max_pixels)
        note = "" if named_raw else f"a raw photo ({found_raw}), developed"
        return Decoded(developed.image, None, developed.camera, "; ".join(filter(None, (note, developed.note))))
    image, camera, note = _load(path, name, max_pixels)
    if named_raw:
        note = "; ".join(filter(None, (f"no raw photo but a picture of format {image.format}", note)))
    return _finished(image, camera, note, name)


def _finished(image: Image.Image, camera: CameraFacts, note: str, name: str) -> Decoded:
    profile = image.info.get("icc_profile")
    picture, alpha = _to_srgb(image, name, profile if isinstance(profile, bytes) else None)
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    picture.info = {}
    upright_alpha = None if alpha is None else upright(alpha, camera.orientation)
    note = "; ".join(filter(None, (note, camera.note)))
    return Decoded(upright(picture, camera.orientation), upright_alpha, camera, note)


def decode_mask(path: Path, name: str, max_pixels: int) -> Image.Image:
    """An upright L picture, 0 or 255: white where the mask's grey (or, in a cut-out, its opacity) is above one half.

    Labels are read as such: 0 and 1 instead of 0 and 255, and 8-bit values in a 16-bit file.

    Raises DigitizeError(image_bomb, undecodable or unsupported_format).
    """
    image, camera, note = _load(path, name, max_pixels)
    decoded = _finished(_labels_spread(image), camera, note, name)
    return binary(decoded.alpha or decoded.image.convert("L"))


def _labels_spread(image: Image.Image) -> Image.Image:
    """A grey picture whose values end at 1, or in 16 bits at 255, over the whole range."""
    if image.mode not in (*_DEEP_GREY, "L"):
        return image
    values = np.asarray(image)
    highest, deep = int(values.max()), image.mode in _DEEP_GREY
    if highest not in (1, 255) or (highest == 255 and not deep):
        return image
    return Image.fromarray((values.clip(0, highest) * (255 // highest)).astype(np.uint8))


def binary(mask: Image.Image) -> Image.Image:
    """An L picture with 255 where `mask` is 128 or more and 0 elsewhere."""
    return mask.point([0] * 128 + [255] * 128)


def fitted(image: Image.Image, max_edge_px: int) -> Image.Image:
    """The picture with its long edge reduced to `max_edge_px` pixels; smaller ones stay as they are."""
    scale = max_edge_px / max(image.size)
    if scale >= 1.0:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Write an RGB picture as JPEG without chroma subsampling; `decode` has taken its metadata away."""
    image.save(path, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def _load(path: Path, name: str, max_pixels: int) -> tuple[Image.Image, CameraFacts, str]:
    """The picture with every pixel decoded, not yet upright, and a note where it is one of several; opened by content,
    whatever the suffix says."""
    try:
        with path.open("rb") as file:
            image = _open(file)
            note = _to_largest(image)
            if image.width * image.height > max_pixels:
                raise image_bomb(name, max_pixels, f"{image.width} x {image.height}")
            image.load()
            camera = read_camera(image)
        if image.format == "HEIF":
            camera = replace(camera, orientation=_heif_orientation(path, image))
    except Image.DecompressionBombError as error:
        raise image_bomb(name, max_pixels, str(error)) from error
    except (*_DAMAGED, struct.error, zlib.error) as error:
        text = _found(path) if isinstance(error, UnidentifiedImageError) else str(error)
        expected = "a whole raw file" if kind_of(name) is Kind.RAW else "a whole image file"
        raise undecodable(name, text.replace(str(path), name), expected) from error
    return image, camera, note


def _found(path: Path) -> str:
    """What a file is that holds no picture of a known kind."""
    with path.open("rb") as file:
        return f"no known image format ({what_is(file.read(HEAD))})"


def _to_largest(image: Image.Image) -> str:
    """Go to the largest of several pictures of a file: a small one before it is a preview. Says which."""
    count = getattr(image, "n_frames", 1)
    if count < 2 or image.format not in ("TIFF", "MPO", "HEIF"):
        return ""
    sizes = []
    for number in range(min(count, _MOST_PICTURES)):
        image.seek(number)
        sizes.append(image.width * image.height)
    best = sizes.index(max(sizes))
    image.seek(best)
    return f"picture {best + 1} of {count}, the largest, is used" if best else ""


def _open(file: BinaryIO) -> Image.Image:
    """Read the header alone."""
    with _OPENING, warnings.catch_warnings():
        # Pillow warns from a fixed size on; `max_pixels` decides here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # ... and of a TIFF that ends too early, which its pixels tell anyway.
        warnings.simplefilter("ignore", UserWarning)
        if "HEIF" not in Image.OPEN:
            pillow_heif.register_heif_opener()
        return Image.open(file, formats=_FORMATS)


def _heif_orientation(path: Path, image: Image.Image) -> int:
    """The EXIF orientation that a HEIF picture still needs.

    libheif applies the container's own rotation and mirroring, and then EXIF only repeats it; but some cameras and
    editors write EXIF alone. pillow-heif hides the tag from Pillow in both cases.
    """
    orientation = image.info.get("original_orientation")
    if orientation is None or orientation not in UPRIGHT:
        return 1
    meta = _heif_meta(path)
    return 1 if b"irot" in meta or b"imir" in meta else int(orientation)


def _heif_meta(path: Path) -> bytes:
    """The top-level `meta` box (ISO/IEC 14496-12), which holds the properties of the pictures but no pixels."""
    with path.open("rb") as file:
        while len(header := file.read(8)) == 8:
            size, kind, head = int.from_bytes(header[:4]), header[4:], 8
            if size == 1:
                size, head = int.from_bytes(file.read(8)), 16
            if kind == b"meta":
                return file.read(size - head if size else -1)
            if size < head:
                break
            file.seek(size - head, 1)
    return b""


def _to_srgb(image: Image.Image, name: str, profile: bytes | None) -> tuple[Image.Image, Image.Image | None]:
    """RGB in sRGB, and the alpha channel if there is one."""
    if image.mode in _DEEP_GREY:
        image = _grey_of_16_bits(image, name)
    elif image.mode not in _PLAIN:
        raise DigitizeError(
            ReasonCode.UNSUPPORTED_FORMAT,
            f"expected grey, palette, RGB or CMYK pixels of 8 or 16 bits, found Pillow's mode {image.mode}",
            path=name,
        )
    alpha = None
    if image.mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode not in ("L", "CMYK", "RGB"):
        image = image.convert("RGB")
    if profile is not None:
        image = _from_profile(image, profile)
    return image.convert("RGB"), alpha


def _grey_of_16_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DigitizeError(ReasonCode.UNSUPPORTED_FORMAT, "expected 8 or 16 bits a pixel, found 32", path=name)
    transparency, eight = image.info.get("transparency"), ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not isinstance(transparency, int):
        return Image.fromarray(eight, "L")
    opaque = np.where(values == transparency, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(eight, "L"), Image.fromarray(opaque, "L")))


def _from_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Into sRGB. A broken profile, or one of another colour model, is ignored as all viewers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture with an EXIF orientation 1..8 applied."""
    transpose = UPRIGHT.get(orientation)
    return image if transpose is None else image.transpose(transpose)
