"""Rays against bodies whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from models.camera import Camera, pixel_rays, project
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, render_textured, sample_texture

SPHERE = trimesh.creation.icosphere(subdivisions=5, radius=1.0)
BALL = Mesh(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces, dtype=np.int64))
CUBE = trimesh.creation.box(extents=(2.0, 2.0, 2.0))
BOX = Mesh(np.asarray(CUBE.vertices), np.asarray(CUBE.faces, dtype=np.int64))
CAMERA = Camera(width=97, height=61, fx=80.0, fy=85.0, cx=47.0, cy=33.0)


def look_at_origin(eye: tuple[float, float, float]) -> np.ndarray:
    z = -np.array(eye) / np.linalg.norm(eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    c2w = np.eye(4)
    c2w[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    c2w[:3, 3] = eye
    return c2w


def test_box_hits_are_exact() -> None:
    o = np.array([[0.3, 0.2, 5.0], [0.3, 0.2, -5.0], [3.0, 0.0, 5.0], [0.1, -0.2, 0.0]])
    d = np.array([[0.0, 0, -1], [0, 0, 2], [0, 0, -1], [1, 0, 0]])
    hits = RayCaster(BOX).cast(o, d)
    np.testing.assert_allclose(hits.t, [4.0, 2.0, np.inf, 0.9], rtol=1e-6)
    assert hits.face[2] == -1
    assert (hits.face[[0, 1, 3]] >= 0).all()
    np.testing.assert_allclose(hits.normal, [[0, 0, 1], [0, 0, -1], [0, 0, 0], [1, 0, 0]], atol=1e-6)


def test_bary_rebuilds_the_hit_point() -> None:
    rng = np.random.default_rng(0)
    o = rng.normal(size=(500, 3))
    o *= 3 / np.linalg.norm(o, axis=1, keepdims=True)
    d = rng.uniform(-0.4, 0.4, (500, 3)) - o
    hits = RayCaster(BALL).cast(o, d)
    a, b = hits.bary.T.astype(float)
    corners = BALL.triangles[hits.face]
    points = (1 - a - b)[:, None] * corners[:, 0] + a[:, None] * corners[:, 1] + b[:, None] * corners[:, 2]
    np.testing.assert_allclose(o + hits.t[:, None] * d, points, atol=2e-6)


def test_sphere_hits_agree_with_the_quadratic() -> None:
    rng = np.random.default_rng(1)
    o = np.tile([0.0, 0.0, 3.0], (400, 1))
    d = rng.uniform(-0.15, 0.15, (400, 3)) + np.array([0.0, 0, -1])
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    b = (o * d).sum(1)
    expected = -b - np.sqrt(b**2 - 8.0)
    np.testing.assert_allclose(RayCaster(BALL).cast(o, d).t, expected, atol=1.5e-3)  # the facets' sagitta


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(-4, 4)] * 3), st.floats(1e-3, 1e3), st.floats(-1e4, 1e4))
def test_distance_to_a_box_is_exact_in_any_frame(point: tuple[float, ...], scale: float, shift: float) -> None:
    outside = np.maximum(np.abs(point) - 1.0, 0.0)
    inside = np.max(np.abs(point)) - 1.0
    expected = np.linalg.norm(outside) if inside > 0 else -inside
    moved = Mesh(BOX.vertices * scale + shift * scale, BOX.faces)
    found = RayCaster(moved).distance(np.array([point]) * scale + shift * scale)
    np.testing.assert_allclose(found / scale, expected, atol=2e-6)


def test_visibility_of_a_box() -> None:
    points = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.5, 0.5, 1.0], [1.0, 0.3, 0.0]])
    seen = RayCaster(BOX).visible(points, np.array([0.0, 0.0, 4.0]), 1e-4)
    assert seen.tolist() == [True, False, True, False]


def test_a_mesh_without_faces_is_never_hit() -> None:
    caster = RayCaster(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64)))
    assert np.isinf(caster.cast(np.zeros((2, 3)), np.ones((2, 3))).t).all()
    assert np.isinf(caster.distance(np.zeros((2, 3)))).all()


def test_texture_row_zero_is_on_top() -> None:
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0], texture[0, 1], texture[1, 0], texture[1, 1] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    uv = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    quad = Mesh(np.column_stack([uv, np.zeros(4)]), np.array([[0, 1, 2], [3, 2, 1]]), uv=uv, texture=texture)
    corners = sample_texture(quad, [0, 0, 0, 1], [[0, 0], [1, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(corners, [[0, 0, 1], [1, 1, 1], [1, 0, 0], [0, 1, 0]], atol=1e-6)
    middle = sample_texture(quad, [0], [[0.5, 0.5]])
    np.testing.assert_allclose(middle, [[0.5, 0.5, 0.5]], atol=1e-6)
    # half way up the left edge: half way between the two left texels
    np.testing.assert_allclose(sample_texture(quad, [0], [[0.0, 0.5]]), [[0.5, 0, 0.5]], atol=1e-6)


def test_colours_of_vertices_are_interpolated() -> None:
    mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]), colors=np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8))
    np.testing.assert_allclose(sample_texture(mesh, [0], [[0.25, 0.5]]), [[0.25, 0.25, 0.5]], atol=1e-6)


@pytest.mark.parametrize("eye", [(3.0, 1.0, 2.0), (-2.0, 2.5, -1.0)])
def test_depth_agrees_with_project(eye: tuple[float, float, float]) -> None:
    c2w = look_at_origin(eye)
    render = render_textured(BOX, CAMERA, c2w)
    assert 0.05 < render.mask.mean() < 0.9
    assert (np.isfinite(render.depth) == render.mask).all()
    rays_o, rays_d = pixel_rays(CAMERA, c2w)
    keep = render.mask.ravel()
    points = rays_o + (render.depth.ravel() / (rays_d @ c2w[:3, 2]))[:, None] * rays_d
    pixels, depth = project(CAMERA, c2w, points[keep])
    v, u = np.nonzero(render.mask)
    np.testing.assert_allclose(pixels, np.stack([u, v], 1) + 0.5, atol=1e-3)
    np.testing.assert_allclose(depth, render.depth[render.mask], rtol=1e-5)
    np.testing.assert_allclose(np.abs(points[keep]).max(1), 1.0, atol=1e-5)


def test_silhouette_of_a_box_is_the_hull_of_its_projected_corners() -> None:
    from scipy.spatial import Delaunay

    c2w = look_at_origin((3.0, 1.0, 2.0))
    corners, _ = project(CAMERA, c2w, BOX.vertices)
    v, u = np.mgrid[0 : CAMERA.height, 0 : CAMERA.width] + 0.5
    inside = Delaunay(corners).find_simplex(np.stack([u.ravel(), v.ravel()], 1)) >= 0
    assert (render_textured(BOX, CAMERA, c2w).mask.ravel() == inside).mean() > 0.999


def test_supersampling_averages_and_background_shows() -> None:
    c2w = look_at_origin((3.0, 1.0, 2.0))
    white = Mesh(BOX.vertices, BOX.faces, colors=np.full((len(BOX.vertices), 3), 255, np.uint8))
    render = render_textured((white, RayCaster(white)), CAMERA, c2w, background=(0.0, 0.5, 0.0), supersample=4)
    np.testing.assert_allclose(render.rgb[0, 0], [0, 0.5, 0], atol=1e-6)
    red = render.rgb[..., 0]
    assert set(np.unique(np.round(red * 16, 4) % 1)) <= {0.0}  # sixteenths of a pixel
    assert ((red > 0) & (red < 1)).any()
    assert np.abs(red - render.mask).max() <= 1.0
