"""One photo: decoded, measured, joined with its mask, and written to scratch as it will be stored.

Runs in a child process (`tasks.ingest.decoder`): native decoders read files of strangers here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.photos import RejectedPhoto
from models.record import Record
from tasks.external import changed
from tasks.ingest.colour import Correction, measure
from tasks.ingest.decode import Decoded, binary, decode, decode_mask, fitted, save_jpeg, upright
from tasks.ingest.masks import check_size, usable
from tasks.ingest.measure import grey, sharpness, thumbnail
from tasks.ingest.options import IngestOptions
from tasks.ingest.refusals import colour_unsolved
from tasks.ingest.select import Candidate

_PER_PHOTO = frozenset(
    {
        ReasonCode.UNDECODABLE,
        ReasonCode.IMAGE_BOMB,
        ReasonCode.UNSUPPORTED_FORMAT,
        ReasonCode.TOO_SMALL,
        ReasonCode.MISSING_DEPENDENCY,
    }
)
"""Errors that cost one photo; all others end the stage."""
LEAVES_NOTHING = "expected a mask that leaves something of the photo, found one that leaves nothing"


class PhotoTask(Record):
    """What is to be done with one photo."""

    name: str
    """Its name in the capture."""
    stem: str
    """Of the files that are written."""
    path: Path
    """A local file."""
    sha256: str | None = None
    """What it must hash to, where the run's plan says so."""
    mask: Path | None = None
    mask_name: str = ""
    """What errors call the mask."""
    folder: Path
    """Where to write."""
    options: IngestOptions
    correction: Correction | None = None
    """White balance and exposure to apply."""


def stage_photo(task: PhotoTask) -> Candidate | RejectedPhoto:
    """Decode, measure and write one photo.

    Raises DigitizeError for what is not the photo's fault.
    """
    try:
        sha256 = _hash(task)
        photo = decode(task.path, task.name, task.options.max_pixels)
        if task.correction is not None:
            photo = replace(photo, image=task.correction.apply(photo.image))
        if min(photo.image.size) < task.options.min_edge_px:
            found = f"{photo.image.width} x {photo.image.height}"
            expected = f"expected a short edge of {task.options.min_edge_px} pixels or more"
            raise DigitizeError(ReasonCode.TOO_SMALL, f"{expected}, found {found}")
    except DigitizeError as error:
        if error.code not in _PER_PHOTO:
            raise
        return RejectedPhoto(name=task.name, code=error.code, message=error.message)
    try:
        mask = _usable_pixels(task, photo)
    except DigitizeError as error:
        if error.code not in _PER_PHOTO | {ReasonCode.MASK_MISMATCH}:
            raise
        message = error.message if error.code is ReasonCode.MASK_MISMATCH else f"its mask: {error.message}"
        return RejectedPhoto(name=task.name, code=ReasonCode.MASK_MISMATCH, message=message)
    if mask is not None and mask.getextrema() == (0, 0):
        return RejectedPhoto(name=task.name, code=ReasonCode.MASK_MISMATCH, message=LEAVES_NOTHING)
    return _write(task, photo, mask, sha256)


def measure_colours(task: PhotoTask) -> Correction:
    """White balance and exposure from the surface that the options name.

    Raises DigitizeError(colour_unsolved) where this photo does not tell them.
    """
    assert task.options.colour is not None
    try:
        _hash(task)
        photo = decode(task.path, task.name, task.options.max_pixels)
    except DigitizeError as error:
        if error.code not in _PER_PHOTO:
            raise
        raise colour_unsolved(task.name, error.message) from error
    return measure(photo.image, task.options.colour, task.name)


def _hash(task: PhotoTask) -> str:
    try:
        sha256 = sha256_file(task.path)
    except OSError as error:
        # Not the photo's fault: a rejection would be committed and outlive the cause.
        message = f"expected a readable file, found: {error.strerror}"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, path=str(task.path)) from error
    if task.sha256 not in (None, sha256):
        raise changed(str(task.path))
    return sha256


def _usable_pixels(task: PhotoTask, photo: Decoded) -> Image.Image | None:
    given = None
    if task.mask is not None:
        given = decode_mask(task.mask, task.mask_name, task.options.max_pixels)
        if given.size == photo.image.size[::-1] != photo.image.size and photo.camera.orientation in (5, 6, 7, 8):
            # drawn on the picture as the sensor took it, before EXIF turned it
            given = upright(given, photo.camera.orientation)
        check_size(photo.image.size, given, task.name, task.mask_name)
    return usable(photo.image.size, given, photo.alpha, task.options.mask_role)


def _write(task: PhotoTask, photo: Decoded, mask: Image.Image | None, sha256: str) -> Candidate:
    task.folder.mkdir(parents=True, exist_ok=True)
    stored = fitted(photo.image, task.options.max_edge_px)
    staged = task.folder / f"{task.stem}.jpg"
    save_jpeg(stored, staged)
    staged_mask = None
    if mask is not None:
        staged_mask = task.folder / f"{task.stem}.png"
        binary(fitted(mask, task.options.max_edge_px)).save(staged_mask)
    focal = photo.camera.focal_px
    return Candidate(
        name=task.name,
        stem=task.stem,
        staged=staged,
        staged_mask=staged_mask,
        width=stored.width,
        height=stored.height,
        source_width=photo.image.width,
        source_height=photo.image.height,
        focal_px=None if focal is None else round(focal * max(stored.size) / max(photo.image.size), 3),
        device=photo.camera.device,
        sharpness=round(sharpness(grey(photo.image)), 4),
        thumb=thumbnail(photo.image),
        sha256=sha256,
        note=photo.note,
        orientation=photo.camera.orientation,
        cropped=photo.camera.cropped,
    )
