"""Read cameras given by the user, whatever program wrote them, and join them to the photos."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from models.camera import CameraSet, FloatArray
from models.errors import DigitizeError
from tasks.context import Context
from tasks.external import fetch_external
from tasks.pose.base import Capture, Photo
from tasks.pose.given.colmap import model_folders, read_colmap
from tasks.pose.given.frame import Frame, GivenFile, invalid
from tasks.pose.given.lens import GivenLens
from tasks.pose.given.metashape import read_metashape
from tasks.pose.given.names import LEAST_FRAMES, match_frames
from tasks.pose.given.realitycapture import read_realitycapture
from tasks.pose.given.transforms import read_cameras, read_transforms

_QUARTERS = {1: 0, 6: 1, 3: 2, 8: 3}
"""EXIF orientation -> quarters by which the photo was turned clockwise; mirrored ones are not among them."""
_SHAPE = 0.02
_SUFFIXES = {".json": "", ".xml": "metashape", ".csv": "realitycapture"}


@dataclass(frozen=True)
class GivenCamera:
    """One photo's camera at the stored size."""

    c2w: FloatArray
    """[4, 4] OpenCV camera to world, its rotation exact."""
    lens: GivenLens


@dataclass(frozen=True)
class GivenPoses:
    """The frames of a file that belong to photos of the capture."""

    pairs: tuple[tuple[Photo, Frame], ...]
    faults: tuple[str, ...]
    """Frames that cost their photo."""
    notes: tuple[str, ...]

    @property
    def other_readings(self) -> tuple[str, ...]:
        """What the file's numbers may mean instead."""
        return tuple(name for name, _ in self.pairs[0][1].others) if self.pairs else ()

    @property
    def turned(self) -> bool:
        """Whether ingest turned any of the photos upright."""
        return any(_QUARTERS.get(photo.orientation, 0) for photo, _ in self.pairs)

    def cameras(
        self, reading: str = "", sensor: bool = False, swapped_by: int | None = None
    ) -> tuple[dict[str, GivenCamera], tuple[str, ...]]:
        """The cameras by the photo's name, and the faults of single photos.

        Args:
            reading: one of `other_readings`, or empty for the file's own convention.
            sensor: whether the file describes the photos as the sensor took them, before EXIF turned them upright.
            swapped_by: quarters by which photos are turned whose frames have width and height swapped, where EXIF
                does not tell.
        """
        found, faults = {}, []
        for photo, frame in self.pairs:
            c2w = dict(frame.others)[reading] if reading else frame.c2w
            try:
                found[photo.name] = place(photo, frame, c2w, sensor, swapped_by)
            except DigitizeError as error:
                faults.append(error.message)
        return found, tuple(faults)


def read_given(context: Context, capture: Capture, form: str) -> GivenPoses:
    """The frames of input `poses`. Photos without one are left out: they are reported as not registered.

    Raises DigitizeError(poses_invalid) naming the file and the frame.
    """
    path = fetch_external(context, "poses")
    try:
        return join(read_file(path, form), capture.photos)
    except DigitizeError as error:
        error.path = error.path or path.name
        raise


def join(given: GivenFile, photos: tuple[Photo, ...]) -> GivenPoses:
    """The frames that belong to photos. Raises DigitizeError(poses_invalid) where hardly any does."""
    if not given.frames:
        raise invalid(given.faults[0] if given.faults else "expected frames, found none")
    by_name = {frame.name: frame for frame in given.frames}
    matched, doubtful = match_frames(photos, [frame.name for frame in given.frames])
    pairs = tuple((photo, by_name[matched[photo.name]]) for photo in photos if photo.name in matched)
    notes = list(given.notes)
    if spare := len(by_name) - len(set(matched.values())):
        notes.append(f"{spare} of {len(by_name)} frames belong to no photo")
    faults = (*given.faults, *doubtful)
    if len(pairs) < LEAST_FRAMES and given.faults:
        raise invalid(given.faults[0])
    return GivenPoses(pairs, faults, tuple(notes))


def read_file(path: Path, form: str) -> GivenFile:
    """What a file or folder of cameras holds.

    Args:
        form: `auto`, or the format's name in the specification.

    Raises DigitizeError(poses_invalid).
    """
    if path.is_dir():
        if form == "colmap" or (form == "auto" and model_folders(path)):
            return read_colmap(path)
        path = _only_file(path)
    elif form == "colmap" or (form == "auto" and path.suffix.lower() in (".bin", ".txt")):
        return read_colmap(path.parent)
    if form == "auto":
        form = _SUFFIXES.get(path.suffix.lower(), "transforms")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if form == "metashape":
            return read_metashape(text)
        if form == "realitycapture":
            return read_realitycapture(text)
        data = json.loads(text)
        if form == "cameras" or (not form and isinstance(data, dict) and "images" in data and "frames" not in data):
            return read_cameras(CameraSet.model_validate_json(text))
        return read_transforms(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise invalid(f"expected a CameraSet, found at {where or 'the top'}: {first['msg']}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise invalid(f"expected JSON, found: {error}") from error


def _only_file(folder: Path) -> Path:
    """The one file of cameras in a folder. Raises DigitizeError(poses_invalid)."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    named = [path for path in found if path.name in ("transforms.json", "cameras.json")]
    if len(choice := named or found) == 1:
        return choice[0]
    there = ", ".join(path.relative_to(folder).as_posix() for path in found[:3])
    raise invalid(
        "expected a file such as transforms.json, or the folder of a COLMAP model, found a folder with "
        + (f"{len(found)} files of cameras: {there}" if found else "no file of cameras")
    )


def place(photo: Photo, frame: Frame, c2w: FloatArray, sensor: bool, swapped_by: int | None) -> GivenCamera:
    """A frame's camera for its photo as stored: upright and resized.

    Args:
        c2w: [4, 4] the frame's pose, or another reading of it.
        sensor, swapped_by: as in `GivenPoses.cameras`.

    Raises DigitizeError(poses_invalid) where the frame has another shape than the photo.
    """
    by_exif = _QUARTERS.get(photo.orientation, 0)
    size = (photo.source_width, photo.source_height)
    lens = frame.lens(*(size[::-1] if sensor and by_exif % 2 else size))
    upright, across = _same_shape(lens, *size), _same_shape(lens, *size[::-1])
    found = f"{photo.name}, {size[0]}x{size[1]}, found {lens.width:g}x{lens.height:g}"
    if not upright and not across:
        raise invalid(f"{frame.name}: expected the shape of {found}")
    if upright and not (sensor and across):
        quarters: int | None = by_exif if sensor and by_exif % 2 == 0 else 0
    else:
        quarters = by_exif if by_exif % 2 else swapped_by
    if quarters is None:
        raise invalid(
            f"{frame.name}: expected the shape of {found}: the photo is turned by its EXIF rotation, the frame is not"
        )
    return GivenCamera(c2w @ _turn_of_camera(quarters), lens.turned(quarters).resized(photo.width, photo.height))


def _turn_of_camera(quarters: int) -> FloatArray:
    """[4, 4] that takes rays of a picture turned clockwise by `quarters` back to the picture before."""
    once = np.array([[0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return np.asarray(np.linalg.matrix_power(once, quarters % 4))


def _same_shape(lens: GivenLens, width: int, height: int) -> bool:
    return abs(lens.width / lens.height - width / height) <= _SHAPE * width / height
