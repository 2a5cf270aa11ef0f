"""Axis conventions, by geometry rather than by restating the code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from models import camera as cam

CAMERA = cam.Camera(width=8, height=6, fx=5.0, fy=6.0, cx=4.2, cy=2.9)
seeds = st.integers(0, 2**32 - 1)


def random_pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    c2w = np.eye(4)
    c2w[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    c2w[:3, 3] = rng.normal(size=3)
    return c2w


@given(seeds)
def test_rays_pass_through_the_points_they_project_to(seed: int) -> None:
    c2w = random_pose(seed)
    rays_o, rays_d = cam.pixel_rays(CAMERA, c2w)
    assert rays_o.shape == (48, 3)
    np.testing.assert_allclose(np.linalg.norm(rays_d, axis=1), 1)
    pixels, depth = cam.project(CAMERA, c2w, rays_o + 3.0 * rays_d)
    assert (depth > 0).all()
    expected = np.stack([np.tile(np.arange(8) + 0.5, 6), np.repeat(np.arange(6) + 0.5, 8)], 1)
    np.testing.assert_allclose(pixels, expected, atol=1e-9)


def test_projection_is_intrinsics_times_w2c() -> None:
    c2w = random_pose(1)
    points = np.random.default_rng(0).normal(size=(10, 3)) + c2w[:3, 3] + 5 * c2w[:3, 2]
    homogeneous = (np.linalg.inv(c2w) @ np.c_[points, np.ones(10)].T)[:3]
    uvw = CAMERA.K @ homogeneous
    np.testing.assert_allclose(cam.project(CAMERA, c2w, points)[0], (uvw[:2] / uvw[2]).T)


def test_axes_right_down_forward() -> None:
    pixels, depth = cam.project(CAMERA, np.eye(4), [[0, 0, 1], [1, 0, 1], [0, 1, 1], [0, 0, -1]])
    assert pixels[1, 0] > pixels[0, 0]
    assert pixels[2, 1] > pixels[0, 1]
    assert depth[3] < 0


def test_points_outside_the_picture_scale_with_it() -> None:
    half = CAMERA.resized(4, 3)
    point = [[0.3, -0.2, 2.0]]
    np.testing.assert_allclose(cam.project(half, np.eye(4), point)[0], cam.project(CAMERA, np.eye(4), point)[0] / 2)


@given(seeds)
def test_inverse_and_similarity(seed: int) -> None:
    c2w = random_pose(seed)
    np.testing.assert_allclose(cam.invert_rigid(c2w) @ c2w, np.eye(4), atol=1e-12)
    similarity = random_pose(seed // 2 + 1)
    similarity[:3, :3] *= 2.5
    assert cam.similarity_scale(similarity) == pytest.approx(2.5)
    moved = cam.apply_similarity_to_c2w(similarity, c2w)
    np.testing.assert_allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3), atol=1e-12)
    points = c2w[:3, 3] + c2w[:3, 2] * 4 + np.random.default_rng(seed).normal(size=(5, 3))
    before, _ = cam.project(CAMERA, c2w, points)
    after, _ = cam.project(CAMERA, moved, cam.transform_points(similarity, points))
    np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-6)


@given(seeds)
def test_smallest_rotation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 3))
    for target in (b, -a, a):
        rotation = cam.rotation_between(a, target)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
        np.testing.assert_allclose(rotation @ a / np.linalg.norm(a), target / np.linalg.norm(target), atol=1e-9)


def test_gltf_is_y_up() -> None:
    up = (0.0, 0.6, 0.8)
    np.testing.assert_allclose(cam.transform_points(cam.gltf_from_world(up), [up])[0], [0, 1, 0], atol=1e-12)


def test_matrix4_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="4x4"):
        cam.matrix4(np.eye(3))
