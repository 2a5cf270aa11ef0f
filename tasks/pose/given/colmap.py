"""Read a COLMAP model, text or binary: `cameras`, `images`, and of several sub-models the largest.

Format: https://colmap.github.io/format.html. Read here rather than by pycolmap, which ends the process where a file is
damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from models.errors import DigitizeError
from tasks.pose.given.frame import Frame, GivenFile, invalid, number, other_readings, rigid
from tasks.pose.given.lens import GivenLens, LensOf, checked, param_names

import pycolmap  # isort: skip

_MOST_NAME = 4096


def model_folders(root: Path) -> list[Path]:
    """The folders at and below `root` that hold a model: `cameras` and `images`, as .bin or .txt."""
    folders = [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())]
    return [folder for folder in folders if _form(folder) is not None]


def read_colmap(root: Path) -> GivenFile:
    """The frames of the model in `root`, or of the one with the most images below it.

    Raises DigitizeError(poses_invalid) naming the file that cannot be read.
    """
    folders = model_folders(root)
    if not folders:
        raise invalid(
            f"expected a COLMAP model (cameras and images, .bin or .txt) in the folder {root.name}, found none"
        )
    models = []
    for folder in folders:
        try:
            models.append((folder, _read_model(folder)))
        except DigitizeError as error:
            if len(folders) == 1:
                raise
            models.append((folder, GivenFile((), (f"{folder.name}: {error.message}",))))
    folder, largest = max(models, key=lambda model: len(model[1].frames))
    if not largest.frames:
        raise invalid("; ".join(model.faults[0] for _, model in models if model.faults) or "found no images")
    if len(models) == 1:
        return largest
    counts = ", ".join(f"{each.relative_to(root)} has {len(model.frames)}" for each, model in models)
    note = f"of {len(models)} models the largest is used, {folder.relative_to(root)}: {counts} images"
    return GivenFile(largest.frames, largest.faults, (*largest.notes, note))


def _form(folder: Path) -> str | None:
    return next(
        (s for s in (".bin", ".txt") if all((folder / f"{n}{s}").is_file() for n in ("cameras", "images"))), None
    )


def _read_model(folder: Path) -> GivenFile:
    form = _form(folder)
    where = f"cameras{form}"
    try:
        if form == ".bin":
            lenses = _binary_cameras((folder / where).read_bytes())
            where = f"images{form}"
            images = list(_binary_images((folder / where).read_bytes()))
        else:
            lenses = _text_cameras((folder / where).read_text(encoding="utf-8-sig"))
            where = f"images{form}"
            images = list(_text_images((folder / where).read_text(encoding="utf-8-sig")))
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError, MemoryError) as error:
        raise invalid(f"{where}: expected a whole file of COLMAP, found: {error}") from error
    except DigitizeError as error:
        raise invalid(f"{where}: {error.message}") from error
    frames, faults = [], []
    for name, camera_id, quaternion, position in images:
        try:
            frames.append(_frame(name, lenses, camera_id, quaternion, position))
        except DigitizeError as error:
            faults.append(error.message)
    return GivenFile(tuple(frames), tuple(faults))


def _frame(
    name: str, lenses: Mapping[int, GivenLens], camera_id: int, quaternion: list[float], position: list[float]
) -> Frame:
    lens = lenses.get(camera_id)
    if lens is None:
        raise invalid(f"{name}: expected a camera with id {camera_id}, found none")
    length = float(np.linalg.norm(quaternion))
    if not 0.5 < length < 2.0 or not np.isfinite(position).all():
        raise invalid(f"{name}: expected a unit quaternion and a position, found {quaternion} and {position}")
    w, x, y, z = np.array(quaternion) / length
    w2c = np.eye(4)
    w2c[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    w2c[:3, 3] = position
    c2w = rigid(np.linalg.inv(w2c), name)
    return Frame(name, c2w, _same(checked(lens, name)), other_readings(c2w, opengl=False))


def _same(lens: GivenLens) -> LensOf:
    return lambda width, height: lens


def _text_cameras(text: str) -> dict[int, GivenLens]:
    lenses = {}
    for line in _lines(text):
        camera_id, model, width, height, *params = line.split()
        values = [number(each, "expected a camera's parameters") for each in (camera_id, width, height, *params)]
        param_names(model)
        lenses[int(values[0])] = GivenLens(model, tuple(values[3:]), values[1], values[2])
    return lenses


def _text_images(text: str) -> Iterator[tuple[str, int, list[float], list[float]]]:
    """Every other line holds points, and may be empty."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    position = 0
    while position < len(lines):
        parts = lines[position].split(maxsplit=9)
        if not parts:
            position += 1
            continue
        if len(parts) < 10:
            raise invalid(f"expected 10 values of an image in a line, found {len(parts)}: {lines[position][:60]!r}")
        values = [number(each, "expected an image's pose") for each in parts[:9]]
        yield parts[9].strip(), int(values[8]), values[1:5], values[5:8]
        position += 2


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            if len(line.split()) < 5:
                raise invalid(f"expected a camera's id, model, width, height and parameters, found {line[:60]!r}")
            yield line


def _binary_cameras(data: bytes) -> dict[int, GivenLens]:
    by_number = {int(member.value): name for name, member in pycolmap.CameraModelId.__members__.items()}
    lenses, offset = {}, 8
    for _ in range(_count(data, 32)):
        camera_id, model_id, width, height = struct.unpack_from("<IiQQ", data, offset)
        model = by_number.get(model_id, str(model_id))
        count = len(param_names(model))
        params = struct.unpack_from(f"<{count}d", data, offset + 24)
        if not np.isfinite(params).all() or not 0 < width < 1 << 20 or not 0 < height < 1 << 20:
            raise invalid(f"expected a size and finite parameters of camera {camera_id}, found {width} x {height}")
        lenses[camera_id] = GivenLens(model, params, width, height)
        offset += 24 + 8 * count
    return lenses


def _binary_images(data: bytes) -> Iterator[tuple[str, int, list[float], list[float]]]:
    offset = 8
    for _ in range(_count(data, 73)):
        _, *pose, camera_id = struct.unpack_from("<I7dI", data, offset)
        offset += 64
        end = data.find(b"\0", offset, offset + _MOST_NAME)
        if end < 0:
            raise invalid(f"expected an image's name, found none at byte {offset}")
        name = data[offset:end].decode("utf-8")
        (points,) = struct.unpack_from("<Q", data, end + 1)
        offset = end + 9 + 24 * points
        if offset > len(data):
            raise invalid(f"expected {points} points of {name}, found the end of the file")
        yield name, camera_id, pose[:4], pose[4:]


def _count(data: bytes, least: int) -> int:
    """The number of records, which must fit in the file."""
    (count,) = struct.unpack_from("<Q", data, 0)
    if count * least > len(data):
        raise invalid(f"expected {count} records, found a file of {len(data)} bytes")
    return int(count)
