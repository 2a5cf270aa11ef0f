"""The objects of bench/surface.py are what they claim to be, and its figures follow from its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.surface import figures, key
from bench.surface_rows import cleaned, parts
from bench.surface_scenes import DISTANCE, OBJECTS, VIEWS, camera_pose, chair, knot, spot
from models.camera import Camera, PosedImage, matrix4
from models.mesh.mesh import Mesh
from tasks.train.methods import hash_sdf


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.triangles[:, k] for k in range(3))
    return float(np.einsum("ij,ij->i", np.cross(a, b), c).sum() / 6)


def test_the_chair_is_the_union_of_its_boxes() -> None:
    mesh = chair(Path())
    seat, legs, bars, top = 0.1, 4 * 0.009, 4 * 0.01, 0.02
    assert volume(mesh) == pytest.approx(seat + legs + bars + top)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    assert np.allclose([*low, *high], [-0.5, -0.5, 0.0, 0.5, 0.5, 2.2])
    assert len(parts(mesh)) == 1


def test_the_knot_is_closed_and_faces_outwards() -> None:
    mesh = knot(Path())
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert volume(mesh) > 0


def test_cameras_stand_around_the_object_and_look_at_it() -> None:
    poses = np.stack([camera_pose(number) for number in range(VIEWS)])
    assert np.allclose(np.linalg.norm(poses[:, :3, 3], axis=1), DISTANCE)
    assert np.allclose(poses[:, :3, 2] * -DISTANCE, poses[:, :3, 3])
    assert np.allclose(np.linalg.det(poses[:, :3, :3]), 1.0)
    assert np.abs(poses[:, :3, 3].mean(0)).max() < 0.1 * DISTANCE


def test_an_object_without_its_data_is_left_out(tmp_path: Path) -> None:
    assert spot(tmp_path) is None
    assert set(OBJECTS) == {"spot", "avocado", "flask", "chair", "knot"}


def test_crumbs_and_what_nobody_sees_are_left_out() -> None:
    pieces = [icosahedron(0.6, 0.0), icosahedron(0.3, 0.0), icosahedron(0.3, 0.9), icosahedron(0.01, -0.9)]
    vertices = np.concatenate([mesh.vertices for mesh in pieces])
    mesh = Mesh(vertices, np.concatenate([each.faces + 12 * k for k, each in enumerate(pieces)]))
    assert [len(part) for part in parts(mesh)] == [20, 20, 20]
    small = Camera(width=9, height=9, fx=9, fy=9, cx=4.5, cy=4.5)
    turns = range(0, VIEWS, 7)
    cameras = [PosedImage(name=str(k), camera=small, c2w=matrix4(camera_pose(k))) for k in turns]
    kept = cleaned(mesh, cameras)
    assert set(np.unique(kept.faces) // 12) == {0, 2}


def icosahedron(radius: float, along_x: float) -> Mesh:
    import trimesh

    made = trimesh.creation.icosahedron()
    return Mesh(np.asarray(made.vertices) * radius + [along_x, 0, 0], np.asarray(made.faces, dtype=np.int64))


def row(name: str, method: str, chamfer: float) -> dict[str, object]:
    scores = {"fscore_0.005": 0.9, "fscore_0.0025": 0.8, "normal_consistency": 0.95}
    return {"object": name, "method": method, "chamfer": chamfer, **scores}


def test_figures_are_ratios_of_means_over_shared_objects() -> None:
    rows = [
        row("chair", "hash_sdf", 0.001),
        row("knot", "hash_sdf", 0.002),
        row("chair", "hull", 0.01),
        row("knot", "hull", 0.002),
        row("knot", "hash_density", 0.004),
        row("knot", "hash_sdf_without_ncc", 0.0025),
        {"object": "spot", "method": "hash_sdf", "skipped": "no data"},
    ]
    found = figures(rows)
    assert found["chamfer_vs_hull"] == pytest.approx(0.25)
    assert found["worst_chamfer_vs_hull"] == pytest.approx(1.0)
    assert found["chamfer_vs_density"] == pytest.approx(0.5)
    assert found["ncc_gain"] == pytest.approx(0.2)
    assert found["objects"] == ["chair", "knot"]
    assert figures([])["chamfer_vs_hull"] == "not measured"
    assert found["texture_gap_db"] == "not measured"
    line = {"object": "flask", "method": "hash_sdf", "cameras": "given", "chamfer": 0.5, "texture_gap_db": -0.3}
    assert figures([*rows, line])["texture_gap_db"] == -0.3
    assert figures([*rows, line])["objects"] == ["chair", "knot"]


def test_other_options_are_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("flask", "hash_sdf", 150.0)
    assert before == key("flask", "hash_sdf", 150.0)
    assert len({before, key("flask", "hash_sdf_without_ncc", 150.0), key("flask", "hash_density", 150.0)}) == 3
    fields = hash_sdf.Options.model_fields
    monkeypatch.setattr(fields["eikonal"], "default", 0.7)
    hash_sdf.Options.model_rebuild(force=True)
    changed = key("flask", "hash_sdf", 150.0)
    monkeypatch.undo()
    hash_sdf.Options.model_rebuild(force=True)
    assert changed != before
