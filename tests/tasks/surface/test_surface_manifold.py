"""Repair: what touches comes apart, what crowds goes, holes are reported and closed."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from models.mesh.mesh import Mesh
from models.mesh.topology import components, keep_faces, places, signed_volume, vertex_normals
from tasks.sample import scenes
from tasks.surface.checks import statistics
from tasks.surface.manifold import hole_report, make_manifold, split_fans


def two_boxes(shift: tuple[float, float, float]) -> Mesh:
    """Two cubes of side 1, the second moved; vertices at one place are one."""
    one = scenes.box((1.0, 1.0, 1.0), subdivisions=0)
    vertices = np.concatenate([one.vertices, one.vertices + np.array(shift)])
    faces = np.concatenate([one.faces, one.faces + len(one.vertices)])
    unique, which = np.unique(vertices.round(9), axis=0, return_inverse=True)
    return Mesh(unique, which.ravel()[faces])


@pytest.mark.parametrize("shift", [(1.0, 1.0, 1.0), (1.0, 1.0, 0.0)], ids=["a corner", "an edge"])
def test_boxes_that_touch_come_apart(shift: tuple[float, float, float]) -> None:
    touching = two_boxes(shift)
    assert components(touching.faces).max() == (1 if shift[2] else 0)
    repaired = make_manifold(touching)
    assert repaired.removed_faces == 0
    assert repaired.split_vertices == (1 if shift[2] else 2)
    figures = statistics(repaired.mesh)
    assert figures["watertight"]
    assert (figures["components"], figures["genus"]) == (2, 0)
    assert figures["volume"] == pytest.approx(2.0)
    assert trimesh.Trimesh(repaired.mesh.vertices, repaired.mesh.faces, process=False).is_watertight


def test_a_sound_mesh_is_left_as_it_is() -> None:
    body = scenes.torus()
    same, split = split_fans(body)
    assert split == 0
    assert np.array_equal(same.faces, body.faces)
    assert np.array_equal(same.vertices, body.vertices)


def test_a_fin_on_an_edge_goes() -> None:
    body = scenes.sphere(1.0, 2)
    a, b = body.faces[0, :2]
    fin = Mesh(np.concatenate([body.vertices, [2 * body.vertices[a]]]), np.concatenate([body.faces, [[a, b, 162]]]))
    assert statistics(fin)["non_manifold_share"] > 0
    repaired = make_manifold(fin)
    assert repaired.removed_faces == 1
    assert statistics(repaired.mesh)["watertight"]
    assert signed_volume(repaired.mesh) == pytest.approx(signed_volume(body))


def test_a_large_hole_is_reported_and_closed_when_asked() -> None:
    body = scenes.sphere(1.0, 3)
    holed = keep_faces(body, body.triangles[:, :, 2].min(1) < 0.5)
    (hole,) = hole_report(holed)
    assert hole["length"] == pytest.approx(2 * np.pi * np.sqrt(0.75), rel=0.15)
    assert hole["centre"][:2] == pytest.approx([0.0, 0.0], abs=0.05)
    assert not statistics(make_manifold(holed).mesh)["watertight"]
    closed = make_manifold(holed, watertight=True)
    assert closed.closed_holes == 1
    assert statistics(closed.mesh)["watertight"]
    assert hole_report(closed.mesh) == []


def test_places_tell_apart_what_differs_in_the_last_bit() -> None:
    points = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [-0.0, 1.0, 2.0], [0.0, np.nextafter(1.0, 2.0), 2.0]])
    number = places(points)
    assert number[0] == number[1] == number[2] != number[3]
    rng = np.random.default_rng(0)
    assert len(np.unique(places(rng.random((200_000, 3))))) == 200_000
    assert vertex_normals(scenes.sphere()) == pytest.approx(scenes.sphere().vertices, abs=0.01)
