"""From oriented points and open meshes to closed ones."""

from __future__ import annotations

import numpy as np
import pytest

from models.camera import matrix4
from models.mesh.mesh import Mesh
from models.mesh.topology import boundary_loops, components, keep_faces
from tasks.sample.scenes import sphere
from tasks.stereo.surface import closed, without_small_parts

REGION = matrix4(np.diag([1.5, 1.5, 1.5, 1.0]))


@pytest.fixture(scope="module")
def belt() -> Mesh:
    """A ball without the band around its waist: its two caps share one gap that runs all round."""
    ball = sphere(1.0, subdivisions=5)
    return keep_faces(ball, np.asarray(np.abs(ball.triangles.mean(1)[:, 2]) > 0.2))


def test_a_gap_that_runs_all_round_is_closed_along_the_surface_and_not_across(belt: Mesh) -> None:
    assert len(boundary_loops(belt.faces)) == 2
    whole = closed(belt, REGION, resolution=64, reach=0.15)
    assert len(boundary_loops(whole.faces)) == 0 and components(whole.faces).max() == 0
    radius = np.linalg.norm(whole.vertices, axis=1)
    assert radius.min() > 0.97 and radius.max() < 1.15  # a disc over each rim would pass through the middle
    again = closed(belt, REGION, resolution=64, reach=0.15)
    assert np.array_equal(whole.vertices, again.vertices) and np.array_equal(whole.faces, again.faces)


def test_what_lies_far_from_everything_measured_stays_open(belt: Mesh) -> None:
    top = keep_faces(belt, np.asarray(belt.triangles.mean(1)[:, 2] > 0.2))
    found = closed(top, REGION, resolution=64, reach=0.05)
    assert len(boundary_loops(found.faces)) >= 1
    assert found.vertices[:, 2].min() > 0.2 - 1.1 * 0.05 * 3.0


def test_small_parts_go() -> None:
    one, other = sphere(1.0), sphere(0.05)
    faces = np.concatenate([one.faces, other.faces + len(one.vertices)])
    both = Mesh(np.concatenate([one.vertices, other.vertices + 1.3]), faces)
    assert components(both.faces).max() == 1
    assert components(without_small_parts(both, 0.01).faces).max() == 0
