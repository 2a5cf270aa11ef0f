"""Cleaning, cutting, decimating: planted defects go, the object stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.camera import Plane
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import components, keep_faces, signed_volume
from tasks.sample import scenes
from tasks.surface.checks import check_surface, statistics
from tasks.surface.clean import clean, fill_holes, look, tidy
from tasks.surface.decimate import decimate, split_long_edges
from tasks.surface.polygons import area, triangulate, with_holes
from tasks.surface.support import cap, cut, stand
from tasks.surface.views import View

FLOOR = Plane(normal=(0.0, 0.0, 1.0), offset=0.0)
BOX = np.array([[-2.0, -2.0, -2.0], [2.0, 2.0, 2.0]])


def views(count: int = 8) -> list[View]:
    return [View(image, Path) for image in scenes.fibonacci_cameras(count, 200, 150, 5.0)]


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + k for m, k in zip(meshes, starts, strict=False)]),
    )


def moved(mesh: Mesh, shift: tuple[float, float, float]) -> Mesh:
    return replace(mesh, vertices=mesh.vertices + np.array(shift))


def flipped(mesh: Mesh) -> Mesh:
    return replace(mesh, faces=mesh.faces[:, ::-1])


# --- cleaning -------------------------------------------------------------------------------------------------------


def test_floaters_and_what_is_hidden_inside_go() -> None:
    body = scenes.sphere(1.0)
    floater = moved(scenes.sphere(0.05, 2), (1.5, 0.0, 0.0))
    hidden = flipped(scenes.sphere(0.8, 4))
    result = clean(joined(floater, body, hidden), views(), 0.02, 0.1)
    assert result.components_removed == 2
    assert len(result.mesh.faces) == len(body.faces)
    assert result.mesh.vertices == pytest.approx(body.vertices)


def test_a_second_large_piece_stays() -> None:
    pair = joined(scenes.sphere(0.8), moved(scenes.sphere(0.4), (1.4, 0.0, 0.0)))
    assert components(clean(pair, views(), 0.02, 0.1).mesh.faces).max() == 1


def test_only_floaters_is_an_error() -> None:
    with pytest.raises(DigitizeError) as caught:
        clean(scenes.sphere(0.02, 2), views(), 0.02, 0.1)
    assert caught.value.code == ReasonCode.ALL_FLOATERS


def test_cameras_inside_the_surface_is_an_error() -> None:
    with pytest.raises(DigitizeError) as caught:
        clean(scenes.sphere(9.0), views(), 0.02, 0.1)
    assert caught.value.code == ReasonCode.INSIDE_OUT


def test_masked_pixels_see_nothing(tmp_path: Path) -> None:
    white = np.zeros((150, 200), np.uint8)
    Image.fromarray(white).save(tmp_path / "mask.png")
    masked = [replace(v, image=v.image.model_copy(update={"mask": "mask.png"})) for v in views(3)]
    sight = look(scenes.sphere(1.0), [replace(v, fetch=lambda path: tmp_path / path) for v in masked])
    assert sight.hits.sum() == 0


def test_tidy_drops_degenerate_and_double_faces() -> None:
    body = scenes.sphere(1.0, 2)
    bad = np.concatenate([body.faces, body.faces[:3, [1, 2, 0]], body.faces[:3, ::-1], [[0, 0, 1], [5, 6, 6]]])
    assert len(tidy(Mesh(body.vertices, bad)).faces) == len(body.faces)


def test_holes_are_closed() -> None:
    body = scenes.sphere(1.0, 3)
    holed = keep_faces(body, np.arange(len(body.faces)) > 5)
    closed, count = fill_holes(holed, 12)
    assert count >= 1
    figures = statistics(closed)
    assert figures["watertight"]
    assert figures["volume"] == pytest.approx(signed_volume(body), rel=0.01)


# --- cutting --------------------------------------------------------------------------------------------------------


def test_cut_and_cap_leave_a_closed_half_ball() -> None:
    result = cut(scenes.sphere(1.0, 5), FLOOR, 0.2)
    assert result.mesh.vertices[:, 2].min() == pytest.approx(0.2)
    assert result.mesh.vertices[result.rim, 2] == pytest.approx(0.2)
    closed, caps = cap(result.mesh, FLOOR, 0.2, 1e-6)
    figures = statistics(closed)
    height = 0.8
    assert caps == 1
    assert figures["watertight"]
    assert figures["volume"] == pytest.approx(np.pi * height**2 * (3 - height) / 3, rel=0.005)


def test_what_was_cut_off_above_its_support_stands_on_it_again() -> None:
    upright = Plane(normal=(0.0, 0.0, 2.0), offset=1.0)  # z = -0.5
    body = scenes.box((0.8, 0.6, 1.0), 4)
    closed, _ = cap(cut(body, upright, 0.13).mesh, upright, 0.13, 1e-6)
    stood = stand(closed, upright, 0.13, 1e-6)
    low, high = body.vertices.min(0)[2], body.vertices.max(0)[2]
    assert stood.vertices[:, 2].min() == pytest.approx(-0.5)
    assert signed_volume(stood) == pytest.approx(signed_volume(body) * (high + 0.5) / (high - low), rel=1e-6)
    assert statistics(stood)["watertight"]


def test_cap_of_a_ring_keeps_the_hole_open() -> None:
    ring = scenes.torus(0.7, 0.25)
    closed, caps = cap(cut(ring, FLOOR, 0.05).mesh, FLOOR, 0.05, 1e-6)
    figures = statistics(closed)
    assert caps == 2
    assert figures["watertight"]
    assert figures["genus"] == 1
    hits = RayCaster(closed).cast([[0.0, 0.0, -1.0]], [[0.0, 0.0, 1.0]])
    assert np.isinf(hits.t[0])


@given(
    tilt=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda n: float(np.linalg.norm(n)) > 0.1),
    offset=st.floats(-0.15, 0.15),
)
@settings(max_examples=15, deadline=None)
def test_any_plane_splits_the_volume(tilt: tuple[float, float, float], offset: float) -> None:
    body = scenes.torus()
    total = 0.0
    for sign in (1, -1):
        plane = Plane(normal=tuple(sign * np.array(tilt) / np.linalg.norm(tilt)), offset=sign * offset)
        closed, _ = cap(cut(body, plane, 0.0).mesh, plane, 0.0, 1e-6)
        assert statistics(closed)["watertight"]
        total += signed_volume(closed)
    assert total == pytest.approx(signed_volume(body), rel=1e-3)


@given(st.integers(3, 40), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_triangles_fill_any_star(corners: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    polygon = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.2, 1.0, (corners, 1))
    faces = triangulate(polygon)
    assert faces.shape == (corners - 2, 3)
    assert sum(area(polygon[f]) for f in faces) == pytest.approx(area(polygon), abs=1e-9)
    assert triangulate(polygon[::-1]).shape == faces.shape


def test_polygon_with_two_holes_has_their_area_left_out() -> None:
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    hole = np.array([[1.0, 1], [1, 2], [2, 2], [2, 1]])
    holes = [hole, hole + np.array([1.5, 1.5])]
    ring = with_holes(square, holes)
    points = np.array([[square, *holes][k][i] for k, i in ring])
    faces = triangulate(points)
    areas = [area(points[f]) for f in faces]
    assert min(areas) >= -1e-12
    assert sum(areas) == pytest.approx(16 - 2)


# --- decimation -----------------------------------------------------------------------------------------------------


def test_decimation_stays_near_the_surface_and_closed() -> None:
    body = scenes.torus(0.7, 0.25)
    fine = Mesh(*trimesh.remesh.subdivide(*trimesh.remesh.subdivide(body.vertices, body.faces)))
    fine = Mesh(fine.vertices, fine.faces.astype(np.int64))
    small = decimate(fine, 3000).mesh
    assert 2500 < len(small.faces) <= 3000
    assert RayCaster(fine).distance(small.vertices).max() < 0.01
    assert RayCaster(small).distance(fine.vertices).max() < 0.01
    figures = statistics(small)
    assert figures["watertight"]
    assert figures["genus"] == 1


def test_long_edges_are_halved_alike_on_both_sides() -> None:
    box = scenes.box((1.0, 0.6, 0.2), subdivisions=0)
    for longest in (0.7, 0.31, 0.1):
        fine = split_long_edges(box, longest)
        figures = statistics(fine)
        assert np.linalg.norm(fine.triangles - np.roll(fine.triangles, 1, axis=1), axis=2).max() <= longest
        assert figures["watertight"]
        assert figures["volume"] == pytest.approx(0.12)
        assert figures["area"] == pytest.approx(statistics(box)["area"])


def test_flat_parts_keep_a_coarse_grid() -> None:
    slab = decimate(scenes.box((1.0, 1.0, 0.1), subdivisions=6), 2000).mesh
    longest = np.linalg.norm(slab.triangles - np.roll(slab.triangles, 1, axis=1), axis=2).max()
    assert longest < 0.25
    assert statistics(slab)["watertight"]


def test_small_meshes_are_only_repaired() -> None:
    body = scenes.sphere(1.0, 2)
    extra = Mesh(np.concatenate([body.vertices, [[0.0, 0.0, 3.0]]]), np.concatenate([body.faces, [[0, 1, 162]]]))
    assert statistics(decimate(extra, 10_000).mesh)["non_manifold_share"] == 0


# --- checks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mesh", "code"),
    [
        (Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64)), ReasonCode.EMPTY_SURFACE),
        (keep_faces(scenes.sphere(1.0, 2), np.arange(4)), ReasonCode.EMPTY_SURFACE),
        (replace(scenes.sphere(), vertices=scenes.sphere().vertices * [1, 1, np.nan]), ReasonCode.NOT_FINITE),
        (moved(scenes.sphere(), (1.5, 0.0, 0.0)), ReasonCode.OUTSIDE_REGION),
        (flipped(scenes.sphere()), ReasonCode.INSIDE_OUT),
    ],
    ids=["empty", "crumbs", "nan", "outside", "inside out"],
)
def test_planted_defects_are_refused(mesh: Mesh, code: ReasonCode) -> None:
    with pytest.raises(DigitizeError) as caught:
        check_surface(mesh, BOX)
    assert caught.value.code == code


def test_sound_surfaces_pass() -> None:
    check_surface(scenes.sphere(), BOX)


def test_statistics_count_defects() -> None:
    body = scenes.sphere(1.0, 2)
    holed = statistics(keep_faces(body, np.arange(len(body.faces)) > 0))
    assert holed["boundary_edges"] == 3
    assert not holed["watertight"]
    assert "genus" not in holed
    fin = Mesh(np.concatenate([body.vertices, [[0.0, 0.0, 3.0]]]), np.concatenate([body.faces, [[0, 12, 162]]]))
    assert statistics(fin)["faces"] == len(body.faces) + 1
