"""Given poses against the photos: matches built from known points and true cameras, with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from models.camera import OPENGL_FROM_OPENCV, FloatArray, PosedImage, matrix4, project
from models.errors import DigitizeError, ReasonCode
from tasks.pose.given.check import PairMatches, check_given
from tasks.pose.given.read import GivenPoses, join, read_file
from tests.tasks.pose import camera_writers as write
from tests.tasks.pose.test_pose_given import cameras, photos

NOISE_PX = 0.3
TRUTH = cameras(10)


def seen(image: PosedImage, points: FloatArray) -> FloatArray:
    """Where a camera sees points in the stored photo."""
    return project(image.camera.resized(320, 240), image.c2w, points)[0]


def matches(truth: tuple[PosedImage, ...] = TRUTH, wrong_share: float = 0.0) -> list[PairMatches]:
    """Noisy matches of points around the origin between neighbours."""
    rng = np.random.default_rng(1)
    pairs = []
    for i, first in enumerate(truth):
        for second in (truth[(i + 1) % len(truth)], truth[(i + 2) % len(truth)]):
            points = rng.uniform(-0.6, 0.6, (80, 3))
            a, b = (seen(each, points) + rng.normal(0, NOISE_PX, (80, 2)) for each in (first, second))
            lost = rng.random(80) < wrong_share
            b[lost] = rng.uniform(0, 240, (int(lost.sum()), 2))
            pairs.append(PairMatches(first.name, second.name, a, b))
    return pairs


def given(path: Path, images: tuple[PosedImage, ...], orientation: int = 1) -> GivenPoses:
    write.ngp(path / "t.json", images)
    return join(read_file(path / "t.json", "auto"), photos(TRUTH, orientation))


def changed(change: FloatArray, count: int = 10) -> tuple[PosedImage, ...]:
    """Cameras whose matrices are multiplied from the right."""
    return tuple(
        image.model_copy(update={"c2w": matrix4(np.array(image.c2w) @ change)}) if n < count else image
        for n, image in enumerate(TRUTH)
    )


def assert_true(found: dict[str, FloatArray]) -> None:
    """Cameras that equal the truth up to one motion of the world."""
    names = sorted(found)
    true = {image.name: np.array(image.c2w) for image in TRUTH}
    motion = true[names[0]] @ np.linalg.inv(found[names[0]])
    for name in names:
        np.testing.assert_allclose(motion @ found[name], true[name], atol=1e-6)


def test_true_poses_agree(tmp_path: Path) -> None:
    checked = check_given(given(tmp_path, TRUTH), matches(wrong_share=0.2))
    assert checked.notes == () and len(checked.cameras) == 10
    assert checked.error_px is not None and 0.1 < checked.error_px < 0.6
    assert_true({name: camera.c2w for name, camera in checked.cameras.items()})


def inverted() -> tuple[PosedImage, ...]:
    """A file whose matrices are world to camera, in OpenCV's axes, written as if they were camera to world."""
    return tuple(
        image.model_copy(update={"c2w": matrix4(np.linalg.inv(np.array(image.c2w)) @ OPENGL_FROM_OPENCV)})
        for image in TRUTH
    )


MENDED = [
    (changed(OPENGL_FROM_OPENCV), "OpenCV's camera axes"),
    (inverted(), "world-to-camera"),
    (
        tuple(
            i.model_copy(update={"c2w": matrix4(OPENGL_FROM_OPENCV @ np.array(m.c2w))})
            for i, m in zip(TRUTH, inverted(), strict=True)
        ),
        "world-to-camera",
    ),
]


@pytest.mark.parametrize(("images", "words"), MENDED)
def test_a_wrong_convention_is_recognised_and_corrected(
    tmp_path: Path, images: tuple[PosedImage, ...], words: str
) -> None:
    checked = check_given(given(tmp_path, images), matches())
    (note,) = checked.notes
    assert words in note and "not as written" in note
    assert_true({name: camera.c2w for name, camera in checked.cameras.items()})


@pytest.mark.parametrize(("orientation", "quarters"), [(6, 1), (8, 3), (3, 2), (1, 1), (1, 3)])
def test_poses_of_photos_before_they_were_turned_upright_are_turned(
    tmp_path: Path, orientation: int, quarters: int
) -> None:
    """Without EXIF's word the swapped edges tell of a quarter turn, and the matches tell which."""
    angle = np.radians(90 * quarters)
    back = np.eye(4)
    back[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    sensor = []
    for image in changed(back):
        c = image.camera
        # the principal point of the picture turned back
        cx, cy = {1: (c.cy, 640 - c.cx), 2: (640 - c.cx, 480 - c.cy), 3: (480 - c.cy, c.cx)}[quarters]
        size = {"width": 480, "height": 640} if quarters % 2 else {"width": 640, "height": 480}
        sensor.append(image.model_copy(update={"camera": c.model_copy(update={"cx": cx, "cy": cy, **size})}))
    checked = check_given(given(tmp_path, tuple(sensor), orientation), matches())
    assert_true({name: camera.c2w for name, camera in checked.cameras.items()})
    assert checked.error_px is not None and checked.error_px < 0.6


def test_poses_of_other_photos_are_refused_with_what_was_measured(tmp_path: Path) -> None:
    shuffled = [image.c2w for image in TRUTH[3:] + TRUTH[:3]][::-1]
    images = tuple(i.model_copy(update={"c2w": c2w}) for i, c2w in zip(TRUTH, shuffled, strict=True))
    with pytest.raises(DigitizeError, match=r"px beside their epipolar lines \(median; \d+ of 20 pairs") as caught:
        check_given(given(tmp_path, images), matches())
    assert caught.value.code is ReasonCode.POSES_INVALID and "leave `poses` out" in caught.value.hint


def test_one_wrong_pose_costs_its_photo_alone(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    checked = check_given(given(tmp_path, changed(turn, 1)), matches())
    assert set(checked.cameras) == {image.name for image in TRUTH[1:]}
    assert "1 photos are left out" in checked.notes[0] and TRUTH[0].name in checked.notes[0]


@pytest.mark.parametrize("says_fisheye", [True, False])
def test_the_wrong_kind_of_lens_is_named(tmp_path: Path, says_fisheye: bool) -> None:
    """A fisheye is known from near, where the two kinds of lens differ, and from afar, where they hardly do; photos of
    one are refused where they contradict the poses."""
    for distance, focal in ((1.1, 250.0), (3.0, 700.0)) if says_fisheye else ((1.1, 3000.0),):
        truth = cameras(10, distance, focal)
        write.ngp(tmp_path / "t.json", truth, is_fisheye=says_fisheye)
        poses = join(read_file(tmp_path / "t.json", "auto"), photos(truth))
        shown = matches(truth) if says_fisheye else [_through_a_fisheye(pair, focal / 2) for pair in matches(truth)]
        with pytest.raises(DigitizeError, match="the photos show none" if says_fisheye else "the photos show one"):
            check_given(poses, shown)


def test_a_true_fisheye_is_taken(tmp_path: Path) -> None:
    truth = cameras(10, 1.1, 250.0)
    write.ngp(tmp_path / "t.json", truth, camera_model="OPENCV_FISHEYE")
    poses = join(read_file(tmp_path / "t.json", "auto"), photos(truth))
    checked = check_given(poses, [_through_a_fisheye(pair, 125.0) for pair in matches(truth)])
    assert checked.notes == () and checked.error_px is not None and checked.error_px < 0.6


def _through_a_fisheye(pair: PairMatches, focal: float) -> PairMatches:
    def bent(pixels: FloatArray) -> FloatArray:
        x = (pixels - [165.5, 118.0]) / focal
        r = np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(np.arctan(r) / r * x * focal + [165.5, 118.0])

    return PairMatches(pair.first, pair.second, bent(pair.a), bent(pair.b))


def test_too_few_matches_are_told_of_and_refuse_nothing(tmp_path: Path) -> None:
    checked = check_given(given(tmp_path, TRUTH), matches()[:2])
    assert len(checked.cameras) == 10 and checked.error_px is None
    assert "could not be checked" in checked.notes[0]
