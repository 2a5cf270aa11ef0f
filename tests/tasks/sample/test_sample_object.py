"""The sample's object has what its description promises."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from tasks.sample import object as shape
from tasks.sample.capture import sample_cameras
from tasks.sample.paint import solid_colour


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return shape.build_mesh(0.0025)


@pytest.fixture(scope="module")
def caster(mesh: Mesh) -> RayCaster:
    return RayCaster(mesh, threads=2)


def test_it_is_one_watertight_surface_with_two_holes(mesh: Mesh) -> None:
    body = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert body.is_watertight and body.is_winding_consistent and body.body_count == 1
    assert body.volume > 0
    assert body.euler_number == 2 - 2 * shape.GENUS


def test_the_default_surface_has_the_same_form() -> None:
    fine = shape.build_mesh(0.00125)
    body = trimesh.Trimesh(fine.vertices, fine.faces, process=False)
    assert body.is_watertight and body.euler_number == 2 - 2 * shape.GENUS
    assert 60_000 < len(fine.faces) < 150_000


def test_vertices_lie_on_the_exact_surface_and_the_foot_on_the_mat(mesh: Mesh) -> None:
    assert np.abs(shape.signed_distance(mesh.vertices)).max() < 1e-6
    assert 0.2 < mesh.diagonal < 0.25
    bottom = np.abs(mesh.vertices[:, 2]) < 1e-7
    assert mesh.vertices[:, 2].min() > -1e-7
    assert np.ptp(mesh.vertices[bottom, 0]) > 1.8 * (shape.FOOT_RADIUS_M - 0.003)


@pytest.mark.parametrize("through", [(0.0, 0.0, shape.RING_CENTRE_Z_M), (0.062, 0.0, 0.088)])
def test_light_falls_through_both_holes(caster: RayCaster, through: tuple[float, float, float]) -> None:
    hits = caster.cast([[through[0], -1.0, through[2]]], [[0.0, 1.0, 0.0]])
    assert hits.face[0] == -1
    around = [[[0, 0, -1.0]], [[0, 0, 1.0]], [[1.0, 0, 0]], [[-1.0, 0, 0]]]
    assert all(caster.cast([through], d).face[0] >= 0 for d in around)


def test_the_bowl_is_deep_and_no_silhouette_shows_it(caster: RayCaster, mesh: Mesh) -> None:
    rim = mesh.vertices[:, 2].max()
    floor = 1.0 - caster.cast([[0.0, 0.0, 1.0]], [[0.0, 0.0, -1.0]]).t[0]
    assert rim - floor > 0.15 * mesh.diagonal
    inside_the_hollow = np.array([[0.0, 0.0, floor + share * (rim - floor)] for share in (0.2, 0.4, 0.6)])
    assert (shape.signed_distance(inside_the_hollow) > 0.005).all()
    for image in sample_cameras(48, 640, 480):
        # the visual hull keeps a place that every camera sees before or behind the object
        rays_o = np.tile(image.centre, (3, 1))
        assert (caster.cast(rays_o, inside_the_hollow - rays_o).face >= 0).all()


def test_cameras_see_the_bowls_floor(caster: RayCaster) -> None:
    floor = 1.0 - caster.cast([[0.0, 0.0, 1.0]], [[0.0, 0.0, -1.0]]).t[0]
    seen = [caster.visible([[0.0, 0.0, floor]], image.centre, 1e-4)[0] for image in sample_cameras(48, 640, 480)]
    assert sum(seen) >= 12


def test_the_handle_is_thinner_than_a_twentieth_of_the_object(caster: RayCaster, mesh: Mesh) -> None:
    level = shape.HANDLE_CENTRE_M[2]
    outer = 1.0 - caster.cast([[1.0, 0.0, level]], [[-1.0, 0.0, 0.0]]).t[0]
    inner = 0.062 + caster.cast([[0.062, 0.0, level]], [[1.0, 0.0, 0.0]]).t[0]
    assert outer - inner == pytest.approx(shape.HANDLE_THICKNESS_M, abs=5e-4)  # the facets cut the curve
    assert outer - inner < 0.05 * mesh.diagonal


def test_paint_is_rich_and_in_the_middle_tones(mesh: Mesh) -> None:
    rgb = solid_colour(mesh.vertices)
    assert rgb.min() > 0.05 and rgb.max() < 0.95
    assert 0.3 < rgb.mean() < 0.65 and rgb.std() > 0.12
    np.testing.assert_array_equal(solid_colour(mesh.vertices[:100])[:50], solid_colour(mesh.vertices[:50]))
    assert np.abs(solid_colour(mesh.vertices, seed=1) - rgb).mean() > 0.02
