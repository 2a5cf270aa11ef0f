"""Masks given by hand: which belongs to which photo, and what of the photo may be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from PIL import Image, ImageChops

from models.errors import DigitizeError, ReasonCode
from models.media import PHOTO_SUFFIXES
from models.spec import MaskRole
from tasks.ingest.decode import binary
from tasks.ingest.source_file import SourceFile

_ENDINGS = ("_mask", "-mask", ".mask")


def mask_names(photo_names: Sequence[str]) -> dict[str, str]:
    """The file of each photo's mask by the photo's unique name in the capture.

    >>> mask_names(["one.jpg", "two.jpg", "two.heic"])
    {'one.jpg': 'one.png', 'two.jpg': 'two.jpg.png', 'two.heic': 'two.heic.png'}
    """
    stems = [PurePosixPath(name).stem for name in photo_names]
    folded = [stem.casefold() for stem in stems]
    pairs = zip(photo_names, stems, folded, strict=True)
    return {name: f"{stem if folded.count(key) == 1 else name}.png" for name, stem, key in pairs}


def match_masks(
    photo_paths: Sequence[str], masks: Sequence[SourceFile], where: str, names: Sequence[str] = ()
) -> dict[str, SourceFile]:
    """The mask of each photo that has one.

    The masks of `top/photo.jpg` are `photo.png`, `photo.jpg.png` and `photo_mask.png`, in `top/` or else, where that
    leaves one choice, anywhere in the masks' folder; or what `mask_names` says, where the names in the capture are
    given. Letters' case does not matter.

    Args:
        where: what errors call the masks' folder.
        names: of the photos in the capture, where they are known by such names as well.

    Returns:
        photo path -> mask. Raises DigitizeError(mask_mismatch) when no mask belongs to any photo.
    """
    by_path: dict[str, SourceFile] = {}
    by_base: dict[str, list[SourceFile]] = {}
    for mask in masks:
        path = PurePosixPath(mask.path.casefold())
        if path.suffix in PHOTO_SUFFIXES:
            by_path.setdefault(str(path.with_suffix("")), mask)
            by_base.setdefault(path.stem, []).append(mask)
    bases = [PurePosixPath(path.casefold()).stem for path in photo_paths]
    short = mask_names(names)
    found = {}
    for photo, base, name in zip(photo_paths, bases, names or [""] * len(bases), strict=True):
        keys = [*_keys(photo), *((name.casefold(), short[name].casefold().removesuffix(".png")) if name else ())]
        match = next((by_path[key] for key in keys if key in by_path), None)
        if match is None and bases.count(base) == 1:
            same = [by_base[PurePosixPath(key).name] for key in keys if PurePosixPath(key).name in by_base]
            match = same[0][0] if same and len(same[0]) == 1 else None
        if match is not None:
            found[photo] = match
    if not found:
        example = f"{PurePosixPath(photo_paths[0]).stem}.png" if photo_paths else "photo.png"
        raise DigitizeError(
            ReasonCode.MASK_MISMATCH,
            f"expected masks named as their photos, such as {example}, "
            f"found {len(masks)} files of which none matches ({', '.join(mask.path for mask in masks[:3])})",
            path=where,
        )
    return found


def _keys(photo: str) -> list[str]:
    path = PurePosixPath(photo.casefold())
    stem = str(path.with_suffix(""))
    return [str(path), stem, *(stem + ending for ending in _ENDINGS)]


def usable(
    size: tuple[int, int], mask: Image.Image | None, alpha: Image.Image | None, role: MaskRole
) -> Image.Image | None:
    """What of a photo may be used: an L picture, 255 = use, or None when that is all of it.

    Args:
        size: of the upright photo; both pictures have it.
        mask: 0 or 255, as given by hand; `role` says what its white part is.
        alpha: the photo's own opacity.
    """
    result = None if alpha is None else binary(alpha)
    if mask is not None:
        allowed = ImageChops.invert(mask) if role is MaskRole.IGNORE else mask
        result = allowed if result is None else ImageChops.darker(result, allowed)
    return None if result is None or result.getextrema() == (255, 255) else result


def check_size(size: tuple[int, int], mask: Image.Image, photo: str, mask_path: str) -> None:
    """Raise DigitizeError(mask_mismatch) naming both files unless the mask has the upright photo's size."""
    if mask.size != size:
        raise DigitizeError(
            ReasonCode.MASK_MISMATCH,
            f"expected {size[0]} x {size[1]} pixels as the upright photo {photo}, "
            f"found {mask.width} x {mask.height} in mask {mask_path}",
            path=mask_path,
        )
