"""Which frame of a cameras file belongs to which photo, by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from models.media import PHOTO_SUFFIXES, RAW_SUFFIXES
from tasks.pose.base import Photo
from tasks.pose.given.frame import invalid

LEAST_FRAMES = 2
"""Photos with a frame below which the names are taken to be wrong."""
_SUFFIXES = PHOTO_SUFFIXES | RAW_SUFFIXES | {".bmp", ".exr"}


def match_frames(photos: Sequence[Photo], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Match frames to photos: by base name with extension, else without it, else with the folders before it: ingest
    calls `card1/IMG_1.jpg` `card1_IMG_1.jpg` where several folders have an `IMG_1.jpg`. Last, letters' case is ignored.

    Returns:
        photo's name -> frame's name, and a line for each photo with several frames.

    Raises DigitizeError(poses_invalid) where hardly any photo has a frame.
    """
    ways = (
        (_index(names, lambda name: (PurePosixPath(name).name,)), lambda name: name),
        (_index(names, lambda name: (_stem(name),)), _stem),
        (_index(names, _endings), lambda name: name),
        (_index(names, lambda name: tuple(map(_stem, _endings(name)))), _stem),
        (_index(names, lambda name: (_stem(name).casefold(),)), lambda name: _stem(name).casefold()),
    )
    found, missing, faults = {}, [], []
    for photo in photos:
        called = (photo.name, *photo.twins)
        matches = next((index[key(name)] for name in called for index, key in ways if key(name) in index), [])
        if not matches:
            missing.append(photo.name)
        elif len(matches) > 1:
            faults.append(f"{photo.name}: expected one frame, found {_listed(matches)}")
        else:
            found[photo.name] = matches[0]
    if len(found) < LEAST_FRAMES and faults:
        raise invalid(faults[0])
    if len(found) < LEAST_FRAMES and missing:
        message = f"expected frames named as the photos, found none for {_listed(missing)}"
        raise invalid(f"{message}; the frames are {_listed(names) or 'none'}")
    return found, faults


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _index(names: Sequence[str], keys: Callable[[str], tuple[str, ...]]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for name in names:
        for key in dict.fromkeys(keys(name.replace("\\", "/"))):
            index.setdefault(key, []).append(name)
    return index


def _endings(name: str) -> tuple[str, ...]:
    """Every way to write a path with `_` for `/`, from the base name to the whole."""
    parts = PurePosixPath(name).parts
    return tuple("_".join(parts[start:]) for start in range(len(parts)))


def _stem(name: str) -> str:
    """The base name without a picture's extension; a dot that is part of the name stays."""
    base = PurePosixPath(name).name
    known = Path(base).suffix.lower() in _SUFFIXES
    return base[: -len(Path(base).suffix)] if known else base
