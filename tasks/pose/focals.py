"""Photos without EXIF that share a size but not a focal length: a zoom that was turned, or two lenses on one body.

Taken for one camera they give a bent model, or several, with a focal length between the true ones. Freeing the focal
length of each photo of such a model and adjusting it once tells them apart, for what a wrong focal length bends, a
right one straightens; but a photo alone determines its own poorly. So photos with nearly one focal length become a
camera, and the capture is solved again with those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from tasks.pose.base import Capture, Photo
from tasks.pose.features import create_database, open_database
from tasks.pose.solve import LADDER, Attempt, Mapping, Rung, best

import pycolmap  # isort: skip

LEAST_PHOTOS = 6
"""Of one size and without EXIF, below which nothing is looked for."""
GAP = 0.04
"""Relative step between neighbouring focal lengths that parts two groups. Photos of one lens differ by 1 % or less on
good captures; focusing nearer changes the focal length by 1 to 3 %."""
LESS_ERROR = 0.9
"""A solution with several focal lengths must have at most that share of the error of the one with a single one."""
_LEAST_POINTS = 30
"""Of a model that a photo must see for its focal length to count."""
_LEAST_MODEL = 4
_ITERATIONS = 40
_MOST_ROUNDS = 4
"""Each measures the focal lengths on the model of the one before."""


def attempts(database: Path, capture: Capture, mapping: Mapping, made: Sequence[Attempt], suffix: str) -> list[Attempt]:
    """Solve the capture again with several focal lengths where its models show them.

    Args:
        database: with the features and matches of the capture.
        made: the attempts with one focal length for each camera.

    Returns:
        the models with several focal lengths, where they stand clearly better than the best one with a single one.
    """
    before, step = best(list(made)), _Step(database, mapping, suffix)
    if not unknown(capture):
        return []
    models = [attempt.reconstruction for attempt in made if before is not None and attempt.rung == before.rung]
    if before is None or before.registered < mapping.enough * len(capture.photos):
        # one focal length for all gave no model worth measuring on
        models += [attempt.reconstruction for attempt in step.solve(_apart(capture), "apart", LADDER[:1])]
    found: list[Attempt] = []
    grouped: tuple[str, ...] = ()
    for number in range(_MOST_ROUNDS):
        models = [model for model in models if model is not None]
        measured = measure(models, mapping.work / f"free{suffix}{number}", mapping.threads)
        several = regrouped(capture, measured)
        keys = () if several is None else tuple(photo.camera_key for photo in several.photos)
        if several is None or keys == grouped:
            break
        grouped = keys
        solved = step.solve(several, f"focals{number}", LADDER)
        if (after := best(solved)) is None:
            break
        found, models = _said(solved, several, capture), [after.reconstruction]
    after = best(found)
    return found if after is not None and _clearly_better(before, after) else []


@dataclass(frozen=True)
class _Step:
    """Solving again with the features and matches that there are."""

    database: Path
    mapping: Mapping
    suffix: str

    def solve(self, capture: Capture, name: str, rungs: tuple[Rung, ...]) -> list[Attempt]:
        """The models of the capture with other cameras."""
        self.mapping.check()
        again = self.database.with_name(f"{self.database.stem}{self.suffix}_{name}.db")
        create_database(again, capture, self.mapping.camera_model)
        copy_matches(self.database, again)
        solved = self.mapping.climb(again, capture, f"{self.suffix}_{name}", rungs)
        again.unlink()
        return solved


def _apart(capture: Capture) -> Capture:
    """The capture with a camera for each photo whose focal length nothing tells."""
    keys = {photo.key for photos in unknown(capture).values() for photo in photos}
    photos = (
        replace(photo, camera_key=f"{photo.camera_key}|{photo.key}") if photo.key in keys else photo
        for photo in capture.photos
    )
    return replace(capture, photos=tuple(photos))


def _clearly_better(before: Attempt | None, after: Attempt) -> bool:
    if before is None:
        return True
    if after.registered != before.registered:
        return after.registered > before.registered
    return after.error_px <= LESS_ERROR * before.error_px


def _said(solved: Sequence[Attempt], several: Capture, before: Capture) -> list[Attempt]:
    count = len({photo.camera_key for photo in several.photos})
    return [
        attempt
        if attempt.reconstruction is None
        else replace(attempt, note=say(several, attempt.reconstruction, before), focal_lengths=count)
        for attempt in solved
    ]


def unknown(capture: Capture) -> dict[str, list[Photo]]:
    """The photos whose focal length nothing tells, by camera; cameras of few photos left out."""
    groups: dict[str, list[Photo]] = {}
    for photo in capture.photos:
        if photo.focal_px is None:
            groups.setdefault(photo.camera_key, []).append(photo)
    return {key: photos for key, photos in groups.items() if len(photos) >= LEAST_PHOTOS}


def measure(models: Sequence[Any], work: Path, threads: int) -> dict[str, float]:
    """The focal length in pixels of each photo by its key, from its own largest model, with all of them free.

    Args:
        models: pycolmap.Reconstruction, of one way of solving; they are not changed.
        work: an empty folder's path.
        threads: the adjustment's.
    """
    found: dict[str, float] = {}
    for number, model in enumerate(sorted(models, key=lambda each: each.num_reg_images())):
        if model.num_reg_images() >= _LEAST_MODEL:
            freed = _freed(model, work / str(number))
            _adjust(freed, threads)
            found |= {
                image.name: float(freed.cameras[image.camera_id].mean_focal_length())
                for image in freed.images.values()
                if image.has_pose and image.num_points3D >= _LEAST_POINTS
            }
    return found


def groups_of(focals: dict[str, float]) -> list[tuple[float, list[str]]]:
    """Focal lengths that stand apart, each with its median and its photos, the shortest first.

    >>> groups_of({"a": 500.0, "b": 505.0, "c": 900.0})
    [(502.5, ['a', 'b']), (900.0, ['c'])]
    """
    ordered = sorted(focals.items(), key=lambda item: (item[1], item[0]))
    groups: list[list[str]] = []
    last = 0.0
    for name, focal in ordered:
        if not groups or focal > last * (1.0 + GAP):
            groups.append([])
        groups[-1].append(name)
        last = focal
    return [(float(np.median([focals[name] for name in group])), group) for group in groups]


def regrouped(capture: Capture, focals: dict[str, float]) -> Capture | None:
    """The capture with a camera for each focal length of its photos without EXIF; None where there is but one.

    A photo whose focal length was not measured goes with the most of its camera.
    """
    changed: dict[str, Photo] = {}
    for photos in unknown(capture).values():
        measured = {photo.key: focals[photo.key] for photo in photos if photo.key in focals}
        groups = groups_of(measured)
        if len(groups) < 2:
            continue
        of = {key: number for number, (_, keys) in enumerate(groups) for key in keys}
        most = max(range(len(groups)), key=lambda number: len(groups[number][1]))
        for photo in photos:
            number = of.get(photo.key, most)
            key = f"{photo.camera_key}|focal length {number + 1}"
            changed[photo.key] = replace(photo, camera_key=key, focal_px=groups[number][0])
    if not changed:
        return None
    return replace(capture, photos=tuple(changed.get(photo.key, photo) for photo in capture.photos))


def say(capture: Capture, model: Any, before: Capture) -> str:
    """What was found: the focal lengths of the photos without EXIF, as the model has them."""
    focal_of = {image.name: model.cameras[image.camera_id].mean_focal_length() for image in model.images.values()}
    without = {photo.key for photo in before.photos if photo.focal_px is None}
    counts: Counter[str] = Counter(photo.camera_key for photo in capture.photos if photo.key in without)
    named = []
    for key, count in counts.items():
        focals = [focal_of[photo.key] for photo in capture.photos if photo.camera_key == key and photo.key in focal_of]
        if focals:
            named.append((float(np.median(focals)), count))
    listed = ", ".join(f"{count} at {focal:.0f} px" for focal, count in sorted(named))
    return f"photos without EXIF were taken at {len(named)} focal lengths: {listed}"


def copy_matches(source: Path, target: Path) -> None:
    """Features and matches into a database that holds the same photos, whatever their numbers there."""
    with open_database(source) as old, open_database(target) as new:
        ids = {image.name: image.image_id for image in new.read_all_images()}
        to = {image.image_id: ids[image.name] for image in old.read_all_images() if image.name in ids}
        for one, other in to.items():
            new.write_keypoints(other, old.read_keypoints(one))
            new.write_descriptors(other, old.read_descriptors(one))
        for key, matches in zip(*old.read_all_matches(), strict=True):
            one, two = pycolmap.pair_id_to_image_pair(key)
            if one in to and two in to:
                new.write_matches(to[one], to[two], matches)
        for key, geometry in zip(*old.read_two_view_geometries(), strict=True):
            one, two = pycolmap.pair_id_to_image_pair(key)
            if one in to and two in to:
                new.write_two_view_geometry(to[one], to[two], geometry)


def _freed(model: Any, work: Path) -> Any:
    """A copy of a model in which each photo has a camera of its own."""
    work.mkdir(parents=True)
    model.write_text(str(work))
    lines = [line for line in (work / "images.txt").read_text().splitlines() if not line.startswith("#")]
    cameras = []
    for at in range(0, len(lines), 2):
        words = lines[at].split(" ")
        camera = model.cameras[int(words[8])]
        distortion = [float(camera.params[index]) for index in camera.extra_params_idxs()][:1]
        middle = (camera.principal_point_x, camera.principal_point_y)
        params = [camera.mean_focal_length(), *middle, *(distortion or [0.0])]
        cameras.append(f"{words[0]} SIMPLE_RADIAL {camera.width} {camera.height} {_numbers(params)}")
        words[8] = words[0]
        lines[at] = " ".join(words)
    (work / "images.txt").write_text("\n".join(lines) + "\n")
    (work / "cameras.txt").write_text("\n".join(cameras) + "\n")
    for name in ("rigs.txt", "frames.txt"):  # without them COLMAP makes a rig of each camera
        (work / name).unlink(missing_ok=True)
    return pycolmap.Reconstruction(str(work))


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _adjust(model: Any, threads: int) -> None:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.num_threads = threads
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    pycolmap.bundle_adjustment(model, options)
