"""A camera that only turned, told from matches alone; what looks like it and is not stays unnamed."""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.camera import FloatArray
from models.errors import ReasonCode
from models.quality import DEFAULT_GATES, Verdict
from models.verdict import Judgement, judge_stage
from tasks.pose.diagnose import explain, turned_throughout
from tasks.pose.evidence import Evidence, PairEvidence
from tasks.pose.rotation_alone import Pair, fit_camera, turned_pairs
from tests.tasks.pose import panned
from tests.tasks.pose.captures import commit_ingest, pose_context

LONG, SHORT = 640, 480
View = tuple[FloatArray, FloatArray]
"""[3, 3] from the world to the camera, and [3] its place."""


def seen(points: FloatArray, view: View, focal: float, bent: float) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """[N, 2] px from the middle, and [N] whether the point is in the photo."""
    rotation, place = view
    local = (points - place) @ rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        straight = local[:, :2] / local[:, 2:] * focal * LONG
    ahead = (local[:, 2] > 0.01) & (np.linalg.norm(straight, axis=1) < 0.7 * LONG)
    straight[~ahead] = 0.0
    found = straight.copy()
    for _ in range(10):
        found = straight / (1 + bent * ((found / (LONG / 2)) ** 2).sum(1, keepdims=True))
    inside = (np.abs(found) < (LONG / 2, SHORT / 2)).all(axis=1)
    return found, np.asarray(ahead & inside)


def matched(
    views: list[View], points: FloatArray, focal: float, noise: float = 0.5, wrong: float = 0.03, bent: float = 0.0
) -> list[Pair]:
    """Matches of all pairs of photos that share 40 points: noisy, some wrong."""
    rng = np.random.default_rng(11)
    photos = [seen(points, view, focal, bent) for view in views]
    pairs = []
    for (first, in_first), (second, in_second) in itertools.combinations(photos, 2):
        both = rng.permutation(np.flatnonzero(in_first & in_second))[:200]
        if len(both) < 40:
            continue
        one, two = first[both], second[both] + rng.normal(0, noise, (len(both), 2))
        outlier = rng.random(len(both)) < wrong
        two[outlier] = rng.uniform(-0.5, 0.5, (int(outlier.sum()), 2)) * (LONG, SHORT)
        pairs.append((one + rng.normal(0, noise, one.shape), two))
    return pairs


def pan(focal: float, step: float = 0.15, roll: float = 0.0, sway: float = 0.0) -> list[View]:
    """Ten photos of a camera that turns by `step` of its field of view each time, with some pitch."""
    rng = np.random.default_rng(1)
    angles = rng.normal(0, (0.04 / focal, max(roll, 1e-9)), (10, 2))
    return [
        (panned.turned(k * step / focal, pitch, rolled), rng.normal(0, sway, 3) if sway else np.zeros(3))
        for k, (pitch, rolled) in enumerate(angles)
    ]


def around() -> FloatArray:
    """Points all around, 3 to 9 units away."""
    rng = np.random.default_rng(2)
    ways = rng.normal(size=(60000, 3))
    return np.asarray(ways / np.linalg.norm(ways, axis=1, keepdims=True) * rng.uniform(3, 9, (60000, 1)))


def wall(relief: float = 0.0) -> FloatArray:
    """A wall 5 units ahead, with depth of that much."""
    rng = np.random.default_rng(3)
    return np.column_stack([rng.uniform(-4, 4, (6000, 2)), rng.normal(5, relief, 6000)])


def along(step: float, tilt: float, focal: float = 1.3) -> list[View]:
    """Twelve photos from a grid of places before the wall, `step` of half a frame apart, each turned a little."""
    rng = np.random.default_rng(4)
    unit = step * 2.5 / focal
    return [
        (panned.turned(*rng.normal(0, tilt, 3)), np.array([(k % 4 - 1.5) * unit, (k // 4 - 1) * unit, 0.0]))
        for k in range(12)
    ]


def arc(half: float, focal: float = 1.3) -> list[View]:
    """Ten photos of one spot of the wall, from angles of -half to half radians, and not quite at one height."""
    rng = np.random.default_rng(5)
    far = 5.0 * focal
    return [
        (
            panned.turned(-a, *rng.normal(0, 0.01, 2)),
            np.array([np.sin(a) * far, rng.normal(0, 0.2 * half * far), 5 - np.cos(a) * far]),
        )
        for a in np.linspace(-half, half, 10)
    ]


@pytest.mark.parametrize(
    ("focal", "noise", "wrong", "bent", "step", "roll"),
    [
        (0.8, 0.5, 0.03, 0.0, 0.15, 0.0),
        (0.8, 1.0, 0.03, 0.0, 0.3, 0.0),
        (0.8, 0.5, 0.03, 0.05, 0.15, 0.0),
        (1.2, 0.5, 0.10, 0.0, 0.15, 0.0),
        (1.2, 1.0, 0.03, 0.0, 0.07, 0.0),
        (1.2, 0.5, 0.03, -0.05, 0.15, 0.1),
        (2.0, 1.0, 0.03, 0.0, 0.15, 0.0),
        (2.0, 0.5, 0.10, 0.0, 0.15, 0.3),
        (3.0, 0.5, 0.03, 0.0, 0.15, 0.0),
        (3.0, 1.0, 0.03, 0.0, 0.15, 0.1),
    ],
)
def test_a_camera_that_turned(focal: float, noise: float, wrong: float, bent: float, step: float, roll: float) -> None:
    pairs = matched(pan(focal, step, roll), around(), focal, noise, wrong, bent)
    fit, turned = turned_pairs(pairs, LONG)
    assert fit is not None
    assert fit.focal == pytest.approx(focal, rel=0.1)
    assert turned.mean() > 0.9
    assert np.median(fit.excess_px) < 0.4


def test_a_small_sway_of_the_camera_is_forgiven() -> None:
    fit, turned = turned_pairs(matched(pan(1.2, sway=0.01), around(), 1.2), LONG)
    assert fit is not None and turned.mean() > 0.8


def test_larger_photos_are_measured_in_proportion() -> None:
    pairs = [(6 * one, 6 * two) for one, two in matched(pan(1.2), around(), 1.2)]
    fit, turned = turned_pairs(pairs, 6 * LONG)
    assert fit is not None and turned.all()
    assert fit.focal == pytest.approx(1.2, rel=0.05)


@pytest.mark.parametrize(
    ("views", "points", "focal"),
    [
        (along(0.1, 0.0), wall(), 1.3),
        (along(0.1, 0.02), wall(), 1.3),
        (along(0.3, 0.0), wall(), 1.3),
        (along(0.3, 0.1), wall(), 1.3),
        (along(0.6, 0.1), wall(), 1.3),
        (along(0.3, 0.1), wall(0.05), 1.3),
        (along(0.2, 0.1, 0.8), wall(0.05), 0.8),
        (along(0.6, 0.1, 3.0), wall(), 3.0),
        (along(0.1, 0.02, 3.0), wall(), 3.0),
        (arc(0.1), wall(), 1.3),
        (arc(0.3), wall(), 1.3),
        (arc(0.1, 3.0), wall(), 3.0),
        (arc(0.3, 0.8), wall(0.1), 0.8),
        (pan(1.2, sway=0.1), around(), 1.2),
        (along(0.3, 0.03), wall(1.0), 1.3),
    ],
)
@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_cameras_that_moved(views: list[View], points: FloatArray, focal: float, noise: float) -> None:
    fit, turned = turned_pairs(matched(views, points, focal, noise), LONG)
    assert fit is None and not turned.any()


def test_the_error_tells_a_wall_from_a_pan() -> None:
    still = fit_camera(matched(pan(1.3), around(), 1.3), LONG)
    moved = fit_camera(matched(arc(0.3), wall(), 1.3), LONG)
    assert still is not None and moved is not None
    assert 10 * np.median(still.excess_px) < np.median(moved.excess_px)


def test_photos_of_one_framing_tell_no_focal_length() -> None:
    pairs = matched([(np.eye(3), np.zeros(3))] * 6, around(), 1.2)
    fit = fit_camera(pairs, LONG)
    assert fit is not None and fit.sharpness_px < 0.4
    assert turned_pairs(pairs, LONG)[0] is None


@pytest.mark.parametrize("kept", [0, 2])
def test_too_few_pairs_tell_nothing(kept: int) -> None:
    pairs = matched(pan(1.2), around(), 1.2)[:kept]
    assert fit_camera(pairs, LONG) is None
    assert turned_pairs(pairs, LONG)[1].shape == (kept,)
    short = [(one[:10], two[:10]) for one, two in matched(pan(1.2), around(), 1.2)]
    assert not turned_pairs(short, LONG)[1].any()


def joined(count: int, alone: int) -> Evidence:
    """All pairs of `count` photos; those of the first `alone` photos by a rotation."""
    pairs = tuple(
        PairEvidence(i, j, 200, 0, 150, j < alone, 1.3 if j < alone else None)
        for i, j in itertools.combinations(range(count), 2)
    )
    return Evidence((3000,) * count, pairs, 0.1, True)


@pytest.mark.parametrize(("alone", "rejected"), [(10, True), (9, True), (8, False), (0, False)])
def test_a_model_is_refused_only_where_nearly_all_pairs_are_rotations(alone: int, rejected: bool) -> None:
    reason = turned_throughout(joined(10, alone))
    assert (reason is not None) == rejected
    if reason is not None:
        assert reason.code is ReasonCode.NO_PARALLAX
        assert "1.3 x the long side" in reason.message
    assert turned_throughout(Evidence((3000,) * 10, (), 0.1, True)) is None


def test_a_rotation_without_focal_length_needs_no_such_words() -> None:
    pairs = tuple(PairEvidence(i, j, 200, 0, 150, True) for i, j in itertools.combinations(range(10), 2))
    evidence = Evidence((3000,) * 10, pairs, 0.1, True)
    assert "long side" not in explain(evidence, 0).message
    assert turned_throughout(evidence) is None


@lru_cache
def everything_around(focal: float) -> FloatArray:
    return panned.texture(int(2 * np.pi * focal * LONG), int(1.6 * LONG))


@lru_cache
def panorama(roll: float, focal: float = 0.8) -> list[FloatArray]:
    rng = np.random.default_rng(0)
    views = [((k - 5) * 0.1 / focal, *rng.normal(0, (0.03 / focal, max(roll, 1e-9)))) for k in range(10)]
    return [panned.panorama_photo(everything_around(focal), panned.turned(*view), focal) for view in views]


def poster() -> list[FloatArray]:
    rng, picture, photos = np.random.default_rng(0), panned.texture(1600, 1200), []
    for angle in np.linspace(-0.4, 0.4, 6):
        place = np.array([np.sin(angle) * 2.0, rng.normal(0, 0.1), 1 - np.cos(angle) * 2.0])
        photos.append(panned.poster_photo(picture, panned.turned(-angle, 0.02, 0.03), place, 1.3))
    return photos


@pytest.mark.parametrize(
    ("roll", "focal_px"), [(0.0, None), (0.06, None), (0.0, 0.8 * LONG)], ids=["level", "rolled", "with EXIF"]
)
def test_photos_of_a_camera_that_turned_are_refused(roll: float, focal_px: float | None, tmp_path: Path) -> None:
    found = judged(tmp_path, panorama(roll), focal_px)
    assert found.verdict is Verdict.REJECT
    assert found.reasons[0].code is ReasonCode.NO_PARALLAX, found.reasons
    assert "rotation alone (one focal length of about 0.8 x" in found.reasons[0].message


def test_photos_of_a_flat_poster_are_not_called_turned(tmp_path: Path) -> None:
    found = judged(tmp_path, poster(), None)
    assert all("rotation alone" not in reason.message for reason in found.reasons), found.reasons


def judged(folder: Path, photos: list[FloatArray], focal_px: float | None) -> Judgement:
    from tasks.pose.task import run

    ingest = commit_ingest(folder / "store", panned.save(folder / "photos", photos), focal_px)
    quick: dict[str, Any] = {"max_features": 500, "feature_edge_px": 320, "enough": 0.0}
    context = pose_context(folder / "run", folder / "store", ingest, "colmap", **quick)
    return judge_stage(run(context.request, context), DEFAULT_GATES)
