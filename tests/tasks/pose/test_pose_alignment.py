"""Photos for alignment only: they hold the cameras together, take marks, and are used for nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.contract.shapes import umeyama
from models.camera import LensSet, PoseSet, project, transform_points
from models.photos import PhotoIndex
from models.points import SparsePoints
from models.scale import MarkedPoint
from tasks.pose.task import run
from tasks.scale.marks import MarkedPhotos, locate
from tests.tasks.pose.captures import commit_ingest, pose_context, ring, write_photos

VIEWS = 16
HELPING = ("view_003.jpg", "view_007.jpg", "view_008.jpg")
CORNER = (0.5, 0.4, 0.7)


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aligned")
    truth = ring(VIEWS)
    write_photos(folder / "photos", truth)
    focal = 1.05 * truth[0].camera.fx
    ingest = commit_ingest(folder / "store", folder / "photos", focal, alignment_only=HELPING)
    context = pose_context(folder / "run", folder / "store", ingest, "colmap")
    result = run(context.request, context)
    assert result.facts["registered_images"] == VIEWS and not result.facts["unregistered"]
    assert set(HELPING).isdisjoint(result.facts["heldout"])
    (context.output / "photos.json").write_bytes(next((folder / "store").rglob("photos.json")).read_bytes())
    return context.output


def read(output: Path) -> PoseSet:
    return PoseSet.model_validate_json((output / "poses.json").read_bytes())


def test_they_have_cameras_and_no_pictures(solved: Path) -> None:
    poses, truth = read(solved), {image.name: image for image in ring(VIEWS)}
    assert tuple(image.name for image in poses.alignment) == HELPING
    assert {image.name for image in poses.images} == set(truth) - set(HELPING)
    assert all(image.image is None and image.mask is None for image in poses.alignment)
    assert {path.name for path in (solved / "images").iterdir()} == set(truth) - set(HELPING)
    every = [*poses.images, *poses.alignment]
    ours, theirs = np.array([image.centre for image in every]), np.array([truth[image.name].centre for image in every])
    off = np.linalg.norm(transform_points(umeyama(ours, theirs), ours) - theirs, axis=1)
    assert off.max() < 0.02


def test_points_are_those_that_shown_photos_see(solved: Path) -> None:
    poses, points = read(solved), SparsePoints.read(solved / "points.npz")
    assert len(points.xyz) > 300
    assert points.visible_idx.max() < len(poses.images) and np.diff(points.visible_ptr).min() >= 2
    errors = []
    for index, image in enumerate(poses.images):
        seen = np.repeat(np.arange(len(points.xyz)), np.diff(points.visible_ptr))[points.visible_idx == index]
        uv, depth = project(image.camera, image.c2w, points.xyz[seen])
        assert (depth > 0).all()
        inside = (uv > -2).all(1) & (uv[:, 0] < image.camera.width + 2) & (uv[:, 1] < image.camera.height + 2)
        errors.append(inside.mean())
    assert min(errors) > 0.9  # the pinhole pictures are cropped a little


def test_marks_in_them_count(solved: Path) -> None:
    poses = read(solved)
    index = PhotoIndex.read(solved / "photos.json")
    lenses = LensSet.model_validate_json((solved / "lenses.json").read_bytes())
    truth = {image.name: image for image in ring(VIEWS)}
    pixels = {}
    for name in HELPING:
        pixel = 2.0 * project(truth[name].camera, truth[name].c2w, np.array([CORNER]))[0][0]
        pixels[name] = (float(pixel[0]), float(pixel[1]))
    found = locate("corner", MarkedPoint(pixels=pixels), MarkedPhotos(poses, index, lenses))
    assert not found.lost and found.residual_px < 1.0
    every = [*poses.images, *poses.alignment]
    ours, theirs = np.array([image.centre for image in every]), np.array([truth[image.name].centre for image in every])
    assert np.linalg.norm(transform_points(umeyama(ours, theirs), found.point[None])[0] - CORNER) < 0.02
