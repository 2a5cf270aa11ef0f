"""What photographs see, and vertices on the zero level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.camera import Plane
from models.mesh.io import read_ply, write_ply
from models.mesh.mesh import Mesh
from tasks.sample import scenes
from tasks.surface.extract import extract
from tasks.surface.project import project
from tasks.surface.seen import seen_vertices, without_unseen
from tasks.surface.support import heights
from tasks.surface.views import View
from tests.models.fields.analytic import SphereField, TorusField


def above(count: int = 24) -> list[View]:
    images = scenes.ring_cameras(count, 200, 150, 5.0, (50.0,))
    return [View(image, Path) for image in images]


def test_the_underside_is_unseen() -> None:
    body = scenes.sphere(1.0, 4)
    seen = seen_vertices(body, above())
    z = body.vertices[:, 2]
    assert seen[z > -0.2].all()
    assert not seen[z < -0.9].any()


def test_what_another_part_hides_is_unseen(tmp_path: Path) -> None:
    lid = scenes.box((2.4, 2.4, 0.1), subdivisions=3)
    ball = scenes.sphere(0.5, 3)
    mesh = Mesh(
        np.concatenate([ball.vertices, lid.vertices + np.array([0.0, 0.0, 0.7])]),
        np.concatenate([ball.faces, lid.faces + len(ball.vertices)]),
    )
    seen = seen_vertices(mesh, above())
    assert not seen[: len(ball.vertices)].any()
    upper = mesh.vertices[:, 2] > 0.74
    assert seen[upper].all()
    marked = replace(mesh, seen=seen)
    write_ply(tmp_path / "m.ply", marked)
    assert np.array_equal(read_ply(tmp_path / "m.ply").seen, seen)  # type: ignore[arg-type]
    rest = without_unseen(marked)
    assert 0 < len(rest.faces) < len(lid.faces)
    assert heights(Plane(normal=(0.0, 0.0, 1.0), offset=-0.6), rest.vertices).min() > 0


def test_masked_pixels_show_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((150, 200), np.uint8)).save(tmp_path / "mask.png")
    views = [
        replace(v, image=v.image.model_copy(update={"mask": "mask.png"}), fetch=lambda path: tmp_path / path)
        for v in above(4)
    ]
    assert not seen_vertices(scenes.sphere(1.0, 2), views).any()


@pytest.mark.parametrize("field", [SphereField(0.5, quantity="sdf"), TorusField(quantity="sdf")])
def test_vertices_come_to_lie_on_the_level(field: SphereField) -> None:
    mesh = extract(field, 64)
    before = field.distance(torch.from_numpy(mesh.vertices)).abs().max()
    moved, error = project(field, mesh, 0.0, 64)
    after = field.distance(torch.from_numpy(moved.vertices)).abs().max()
    assert before > 20 * after
    assert after < 1e-6
    assert error < 1e-6
    assert np.linalg.norm(moved.vertices - mesh.vertices, axis=1).max() <= 0.5 * 2.0 / 64 * 1.001


def test_vertices_at_the_walls_stay() -> None:
    field = SphereField(1.2, quantity="sdf")
    mesh = extract(field, 64)
    moved, _ = project(field, mesh, 0.0, 64)
    still = (moved.vertices == mesh.vertices).all(1)
    off = field.distance(torch.from_numpy(mesh.vertices)).abs().numpy()
    assert still[off > 2.0 / 64].all()
    assert (off > 2.0 / 64).any()
    assert np.abs(moved.vertices).max() <= 1.0
