"""Faces that pass through each other: found like by an independent library, and repaired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open3d
import pytest

from models.mesh.mesh import Mesh
from tasks.sample import scenes
from tasks.surface.checks import statistics
from tasks.surface.decimate import collapse, decimate
from tasks.surface.intersect import self_intersections, untangle


def dented(depth: float) -> Mesh:
    """A ball whose topmost vertex is pushed down by `depth`: beyond 2 it leaves through the other side."""
    body = scenes.sphere(1.0, 3)
    vertices = body.vertices.copy()
    vertices[np.argmax(vertices[:, 2]), 2] -= depth
    return Mesh(vertices, body.faces)


def by_open3d(mesh: Mesh) -> set[int]:
    legacy = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces.astype(np.int32))
    )
    return {int(k) for k in np.unique(np.asarray(legacy.get_self_intersecting_triangles()))}


@pytest.mark.parametrize("depth", [0.0, 1.0, 2.3])
def test_found_as_by_another_library(depth: float) -> None:
    mesh = dented(depth)
    assert set(self_intersections(mesh).tolist()) == by_open3d(mesh)
    assert (len(self_intersections(mesh)) > 0) == (depth > 2)


def test_two_bodies_that_overlap() -> None:
    one = scenes.box((1.0, 1.0, 1.0), subdivisions=1)
    both = Mesh(
        np.concatenate([one.vertices, one.vertices + np.array([0.6, 0.55, 0.53])]),
        np.concatenate([one.faces, one.faces + len(one.vertices)]),
    )
    assert set(self_intersections(both).tolist()) == by_open3d(both)


@pytest.mark.parametrize("spike", [2.3, 12.0])
def test_tangles_are_undone(spike: float) -> None:
    fixed, left = untangle(dented(spike))
    assert left == 0
    assert by_open3d(fixed) == set()
    figures = statistics(fixed)
    assert figures["watertight"]
    assert figures["volume"] == pytest.approx(4 / 3 * np.pi, rel=0.12)


def test_rough_surfaces_decimate_without_tangles() -> None:
    rng = np.random.default_rng(0)
    body = scenes.sphere(1.0, 5)
    rough = replace(body, vertices=body.vertices * (1 + 0.02 * rng.standard_normal((len(body.vertices), 1))))
    small = decimate(rough, 2000)
    assert small.self_intersections == 0
    assert by_open3d(small.mesh) == set()
    assert len(small.mesh.faces) <= 2000
    assert statistics(small.mesh)["watertight"]


def test_collapse_keeps_places_and_what_vertices_hold() -> None:
    body = scenes.paint(scenes.sphere(1.0, 4))
    small = collapse(body, 500)
    assert len(small.faces) <= 500
    known = {tuple(v): tuple(c) for v, c in zip(body.vertices, body.colors, strict=True)}  # type: ignore[arg-type]
    assert all(known[tuple(v)] == tuple(c) for v, c in zip(small.vertices, small.colors, strict=True))  # type: ignore[arg-type]
