"""Captures without EXIF that were taken at several focal lengths, and such as were not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.contract.shapes import umeyama
from models.camera import Camera, PosedImage, PoseSet, matrix4, transform_points
from tasks.pose import focals
from tasks.pose.base import Capture, Photo
from tasks.pose.solve import Attempt
from tasks.pose.task import run
from tasks.sample.scenes import ring_cameras
from tests.tasks.pose.captures import SIZE, commit_ingest, pose_context, write_photos


def photo(name: str, key: str = "||360x270", focal: float | None = None) -> Photo:
    return Photo(name, name, Path(name), None, *SIZE, *SIZE, focal, key)


@pytest.mark.parametrize(
    ("found", "groups"),
    [
        ({}, []),
        ({"a": 500.0}, [["a"]]),
        ({"a": 500.0, "b": 505.0, "c": 510.0}, [["a", "b", "c"]]),
        ({"a": 500.0, "b": 519.0, "c": 538.0}, [["a", "b", "c"]]),
        ({"a": 500.0, "b": 521.0}, [["a"], ["b"]]),
        ({"b": 900.0, "a": 500.0, "d": 905.0, "c": 498.0}, [["c", "a"], ["b", "d"]]),
        ({"a": 300.0, "b": 400.0, "c": 500.0, "d": 401.0}, [["a"], ["b", "d"], ["c"]]),
        ({"b": 500.0, "a": 500.0}, [["a", "b"]]),
    ],
)
def test_focal_lengths_that_stand_apart_are_groups(found: dict[str, float], groups: list[list[str]]) -> None:
    assert [names for _, names in focals.groups_of(found)] == groups


def test_photos_become_cameras_by_focal_length() -> None:
    """Those with EXIF stay; one that was not measured goes with the most; few photos of a size are left alone."""
    photos = [photo(f"{n}.jpg") for n in "abcdefg"] + [photo("x.jpg", "Maker|M|50|360x270", 400.0)]
    photos += [photo(f"{n}.jpg", "||200x200") for n in "pq"]
    capture = Capture(tuple(photos), Path(), None)
    measured = {f"{n}.jpg": 300.0 for n in "abcd"} | {"e.jpg": 500.0, "f.jpg": 510.0, "p.jpg": 100.0, "q.jpg": 200.0}
    found = focals.regrouped(capture, measured)
    assert found is not None
    cameras = {each.name: (each.camera_key.removeprefix("||360x270"), each.focal_px) for each in found.photos}
    assert {cameras[f"{n}.jpg"] for n in "abcdg"} == {("|focal length 1", 300.0)}
    assert {cameras[f"{n}.jpg"] for n in "ef"} == {("|focal length 2", 505.0)}
    assert found.photos[7:] == capture.photos[7:]
    assert focals.regrouped(capture, dict.fromkeys(measured, 300.0)) is None
    assert focals.regrouped(replace(capture, photos=capture.photos[:5]), measured) is None


@pytest.mark.parametrize(
    ("registered", "error", "taken"), [(20, 0.5, True), (20, 0.95, False), (21, 1.5, True), (19, 0.2, False)]
)
def test_several_focal_lengths_must_explain_the_photos_clearly_better(
    registered: int, error: float, taken: bool
) -> None:
    before = Attempt("incremental", 20, 900, 1.0, "one")
    assert focals._clearly_better(before, Attempt("again", registered, 800, error, "two")) is taken


def zoomed(count: int, film_mm: tuple[float, ...]) -> tuple[PosedImage, ...]:
    """`count` photos at each focal length, in rings that lie between each other."""
    images = []
    for number, mm in enumerate(film_mm):
        f = mm / 43.2666 * math.hypot(*SIZE)
        turn = np.eye(4)
        angle = math.radians(12.0 * number)
        turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        for index, image in enumerate(ring_cameras(count, *SIZE, 3.0, (25.0, 45.0), (0.0, 0.0, 0.25))):
            camera = Camera(width=SIZE[0], height=SIZE[1], fx=f, fy=f, cx=SIZE[0] / 2, cy=SIZE[1] / 2)
            name, c2w = f"view_{index:02d}_{number}.jpg", matrix4(turn @ np.array(image.c2w))
            images.append(image.model_copy(update={"camera": camera, "c2w": c2w, "name": name}))
    return tuple(sorted(images, key=lambda image: image.name))


@pytest.mark.parametrize("film_mm", [(28.0, 50.0), (35.0, 35.0)])
def test_a_zoom_without_exif_is_found_and_nothing_where_there_is_none(
    film_mm: tuple[float, ...], tmp_path: Path
) -> None:
    truth = zoomed(9, film_mm)
    write_photos(tmp_path / "photos", truth)
    ingest = commit_ingest(tmp_path / "store", tmp_path / "photos", None)
    context = pose_context(tmp_path / "run", tmp_path / "store", ingest, "colmap")
    result = run(context.request, context)
    poses = PoseSet.model_validate_json((context.output / "poses.json").read_bytes())
    assert len(poses.images) == len(truth)
    true = {image.name: image for image in truth}
    for image in poses.images:
        assert image.camera.fx == pytest.approx(true[image.name].camera.fx, rel=0.01)
    ours = np.array([image.centre for image in poses.images])
    theirs = np.array([true[image.name].centre for image in poses.images])
    off = np.linalg.norm(transform_points(umeyama(ours, theirs), ours) - theirs, axis=1)
    assert off.max() < 0.02
    several = len(set(film_mm)) > 1
    notes = result.facts.get("notes", [])
    assert bool(notes) == several
    if several:
        assert notes[0].startswith("photos without EXIF were taken at 2 focal lengths: 9 at 29")
    assert any("focals" in each["rung"] for each in result.facts["tried"]) == several
