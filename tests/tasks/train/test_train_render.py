"""Normals, pictures and videos of a ball."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.camera import Camera, PoseSet, matrix4, pixel_rays, transform_points
from models.errors import DigitizeError
from models.fields.render import render_image
from models.fields.representation import FieldRepresentation
from tasks.sample.scenes import fibonacci_cameras, look_at
from tasks.train.turntable import DISTANCE, ELEVATION_DEG, orbit, still, turntable
from tests.models.fields.analytic import SphereField

WORLD_FROM_FIELD = ((0.0, -2.0, 0.0, 1.0), (2.0, 0.0, 0.0, 2.0), (0.0, 0.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0))
MIDDLE = np.array([1.0, 2.0, 3.0])


@pytest.fixture
def poses() -> PoseSet:
    return PoseSet(images=fibonacci_cameras(3, 40, 30, 7.0), world_from_field=WORLD_FROM_FIELD, up=(0.6, 0.0, 0.8))


@pytest.mark.parametrize("kind", ["density", "sdf"])
def test_normals_point_out_of_the_surface(kind: str) -> None:
    camera = Camera(width=33, height=25, fx=40.0, fy=40.0, cx=16.5, cy=12.5)
    c2w = look_at(np.array([7.0, 4.0, 2.0]), (1.0, 2.0, 3.0))
    field = SphereField(0.5, centre=(0.1, 0.0, 0.0), quantity=kind)
    picture = render_image(field, camera, c2w, WORLD_FROM_FIELD, normals=True)
    assert picture.normals is not None
    solid = picture.opacity > 0.99
    assert solid.sum() > 80
    rays_o, rays_d = (part.reshape(25, 33, 3)[solid] for part in pixel_rays(camera, c2w))
    points = rays_o + rays_d * (picture.depth[solid] / (rays_d @ c2w[:3, 2]))[:, None]
    centre = transform_points(WORLD_FROM_FIELD, np.array([[0.1, 0.0, 0.0]]))[0]
    true = (points - centre) / np.linalg.norm(points - centre, axis=1, keepdims=True)
    cosine = (true * picture.normals[solid]).sum(1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 3.0
    assert np.allclose(np.linalg.norm(picture.normals[solid], axis=1), 1.0, atol=1e-4)
    assert (picture.normals[picture.opacity < 0.4] == 0.0).all()
    assert render_image(field, camera, c2w, WORLD_FROM_FIELD).normals is None


def test_the_orbit_looks_at_the_middle_upright(poses: PoseSet) -> None:
    views = orbit(poses, 8)
    for c2w in views:
        assert np.allclose(c2w[:3, :3] @ c2w[:3, :3].T, np.eye(3)) and np.linalg.det(c2w[:3, :3]) > 0
        assert np.allclose(c2w[:3, 3] + c2w[:3, 2] * DISTANCE * 2.0, MIDDLE)
        assert c2w[:3, 0] @ poses.up == pytest.approx(0.0, abs=1e-9)
        assert c2w[:3, 1] @ poses.up < -0.9
        assert (c2w[:3, 3] - MIDDLE) @ poses.up > 0
    height = DISTANCE * 2.0 * np.sin(np.radians(ELEVATION_DEG))
    assert np.allclose(np.mean([c2w[:3, 3] - MIDDLE for c2w in views], 0), height * np.array(poses.up))


def test_a_video_goes_around(poses: PoseSet, tmp_path: Path) -> None:
    import av

    path = tmp_path / "new" / "ball.mp4"
    turntable(FieldRepresentation(SphereField(0.5)), poses, path, frames=5, size=48)
    with av.open(str(path)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in frames] == [(48, 48, 3)] * 5
    assert (frames[0][:4, :4] > 240).all()
    assert frames[0][24, 24].max() < 240
    assert np.abs(frames[0].astype(int) - frames[2].astype(int)).mean() > 2.0


@pytest.mark.parametrize("what", ["rgb", "depth", "normals"])
def test_stills(poses: PoseSet, tmp_path: Path, what: str) -> None:
    centred = poses.model_copy(update={"world_from_field": matrix4(np.diag([2.0, 2.0, 2.0, 1.0]))})
    still(FieldRepresentation(SphereField(0.5)), centred, tmp_path / "a.png", 1, what)  # type: ignore[arg-type]
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (30, 40, 3)
    assert pixels[15, 20].max() > 60 and pixels[0, 0].max() == 0
    if what == "depth":
        assert pixels[15, 20].tolist() == [255] * 3


def test_a_view_that_is_not_there(poses: PoseSet, tmp_path: Path) -> None:
    with pytest.raises(DigitizeError, match="from 0 to 2, found 3"):
        still(FieldRepresentation(SphereField(0.5)), poses, tmp_path / "a.png", 3)
