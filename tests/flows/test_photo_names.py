"""Names of photos in a specification: found by any name that the user may give, refused with the nearest."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.plan.batch_plan import plan_batch
from flows.plan.validate import check_spec
from models.spec_yaml import load_spec
from tests.flows.test_inputs import batch, photo


def in_a_folder(root: Path, names: list[str]) -> str:
    for name in names:
        photo(root / "pot" / name)
    return "pot"


def in_a_zip(root: Path, names: list[str]) -> str:
    with zipfile.ZipFile(root / "pot.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return "pot.zip"


def in_a_tar(root: Path, names: list[str]) -> str:
    with tarfile.open(root / "pot.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return "pot.tar"


MARKED = [
    ("IMG_1.jpg", None),
    ("IMG_1.JPG", "there is IMG_1.jpg"),
    ("IMG_11.jpg", "the nearest are IMG_1.jpg"),
    ("ring/IMG_2.jpg", None),
    ("ring/IMG_3.jpg", "IMG_2.jpg"),
    ("IMG_2.jpg", None),
    ("a/same.jpg", None),
    ("a_same.jpg", None),
    ("same.jpg", "found 'same.jpg', which is none"),
    ("notes.txt", "found 'notes.txt', which is none"),
]


@pytest.mark.parametrize("make", [in_a_folder, in_a_zip, in_a_tar])
@pytest.mark.parametrize(("name", "words"), MARKED)
def test_marks_on_photos_that_are_not_there_are_refused_before_anything_runs(
    make: Callable[[Path, list[str]], str], name: str, words: str | None, tmp_path: Path
) -> None:
    photos = make(tmp_path, ["IMG_1.jpg", "ring/IMG_2.jpg", "a/same.jpg", "b/same.jpg"])
    points = {"a": {"pixels": {name: [1, 2], "a/same.jpg": [3, 4], "b/same.jpg": [5, 6]}}}
    points["b"] = {"pixels": {"a/same.jpg": [3, 5], "b/same.jpg": [5, 7]}}
    spec = batch(tmp_path, photos, asset={"scale": {"kind": "known_distance", "distance_m": 0.1, **points}})
    mistakes = check_spec(spec).mistakes
    plan = plan_batch(load_spec(spec))
    if words is None:
        assert mistakes == () and not plan.unusable
        return
    (mistake,) = mistakes
    assert words in mistake.message and name in mistake.message and mistake.line
    assert mistake.message in str(plan.unusable["pot"]) and not plan.assets


def test_the_photo_of_a_colour_chart_is_looked_for_in_archives_too(tmp_path: Path) -> None:
    photos = in_a_zip(tmp_path, ["ring/IMG_1.jpg", "ring/IMG_2.jpg", "ring/chart.jpg"])
    for name, good in (("ring/chart.jpg", True), ("chart.jpg", True), ("Chart.jpg", False)):
        spec = batch(tmp_path, photos, asset={"colour": {"chart": {"photo": name}}})
        assert bool(check_spec(spec).mistakes) is not good
        assert ("pot" in plan_batch(load_spec(spec)).unusable) is not good


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("IMG_1.jpg", None),
        ("ring/*", None),
        ("IMG_?.jpg", None),
        ("img_*.jpg", "found 'img_*.jpg', which is none"),
        ("IMG_3.jpg", "the nearest are"),
    ],
)
def test_photos_for_alignment_only_must_be_there(pattern: str, words: str | None, tmp_path: Path) -> None:
    photos = in_a_folder(tmp_path, ["IMG_1.jpg", "ring/IMG_2.jpg", "a/same.jpg", "b/same.jpg"])
    spec = batch(tmp_path, photos, asset={"alignment_only": [pattern]})
    mistakes, plan = check_spec(spec).mistakes, plan_batch(load_spec(spec))
    if words is None:
        assert mistakes == () and not plan.unusable
        return
    (mistake,) = mistakes
    assert words in mistake.message and mistake.line and set(plan.unusable) == {"pot"}
