"""Voids that no camera sees into become solid; what cameras see stays empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.camera import Plane, matrix4
from models.fields.base import Field
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import signed_volume
from tasks.surface.extract import extract
from tasks.surface.hidden import hidden_cells
from tests.models.fields.analytic import SphereField

WORLD = matrix4(np.eye(4))
BALL = 4.0 / 3.0 * np.pi * 0.6**3


class HollowBall(SphereField):
    """A shell of 0.5 to 0.6 with a round hole of radius `crack` in its side at +x."""

    method = "analytic_hollow"

    def __init__(self, crack: float = 0.0) -> None:
        super().__init__(0.6, quantity="sdf")
        self.crack = crack

    def distance(self, x: Tensor) -> Tensor:
        shell = torch.maximum(x.norm(dim=-1) - 0.6, 0.5 - x.norm(dim=-1))
        bore = torch.maximum(x[:, 1:].norm(dim=-1) - self.crack, -x[:, 0])
        return torch.maximum(shell, -bore) if self.crack else shell


def eyes(count: int = 40) -> list[np.ndarray]:
    """Camera centres on a sphere around the cube (Fibonacci)."""
    k = np.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    return list(3.0 * np.stack([ring * np.cos(turn), ring * np.sin(turn), height], 1))


def filled(field: Field, support: Plane | None = None) -> tuple[Mesh, Mesh]:
    first = extract(field, 64)
    return first, extract(field, 64, solid=hidden_cells(first, eyes(), WORLD, support))


def test_a_closed_void_is_filled() -> None:
    first, solid = filled(HollowBall())
    assert signed_volume(first) < 0.5 * BALL
    assert abs(signed_volume(solid) / BALL - 1) < 0.02


def test_a_crack_shows_too_little_to_keep_the_void() -> None:
    first, solid = filled(HollowBall(crack=0.06))
    assert signed_volume(first) < 0.5 * BALL
    assert signed_volume(solid) > 0.93 * BALL


def test_a_wide_opening_stays_open() -> None:
    """A bowl that many cameras look into keeps its hollow."""
    first, solid = filled(HollowBall(crack=0.45))
    assert abs(signed_volume(solid) / signed_volume(first) - 1) < 0.05


def test_solids_keep_their_surface() -> None:
    first, solid = filled(SphereField(0.6, quantity="sdf"))
    np.testing.assert_array_equal(first.vertices, solid.vertices)


def test_what_reaches_the_walls_is_unknown_not_solid() -> None:
    """Behind a facade that spans the cube nothing is filled."""

    class Facade(SphereField):
        method = "analytic_facade"

        def distance(self, x: Tensor) -> Tensor:
            return x[:, 2].abs() - 0.05

    first = extract(Facade(quantity="sdf"), 64)
    front = [eye for eye in eyes() if eye[2] > 1.0]
    assert not hidden_cells(first, front, WORLD, None)[:, :, :60].any()


def test_below_the_support_nothing_counts() -> None:
    plane = Plane(normal=(0.0, 0.0, 1.0), offset=0.0)
    grid = hidden_cells(extract(HollowBall(), 64), eyes(), WORLD, plane)
    assert grid[:, :, 70:].any()
    assert not grid[:, :, :64].any()


class Stool(SphereField):
    """A plate on four thin legs, each standing at z = -0.6."""

    method = "analytic_stool"

    def distance(self, x: Tensor) -> Tensor:
        def box(middle: tuple[float, float, float], half: tuple[float, float, float]) -> Tensor:
            return ((x - x.new_tensor(middle)).abs() - x.new_tensor(half)).amax(dim=-1)

        parts = [box((0.0, 0.0, 0.0), (0.5, 0.5, 0.06))]
        parts += [box((a * 0.45, b * 0.45, -0.3), (0.05, 0.05, 0.3)) for a in (-1, 1) for b in (-1, 1)]
        return torch.stack(parts).amin(dim=0)


@pytest.mark.parametrize("ground", [False, True])
def test_the_dark_under_a_seat_stays_open_though_no_camera_looks_there(ground: bool) -> None:
    from_above = [eye for eye in eyes() if eye[2] > 1.0]
    plane = Plane(normal=(0.0, 0.0, 1.0), offset=0.6) if ground else None

    class Standing(Stool):
        def distance(self, x: Tensor) -> Tensor:
            alone = super().distance(x)
            return torch.minimum(alone, x[:, 2] + 0.6) if ground else alone

    first = extract(Standing(quantity="sdf"), 64)
    seen = [sum(RayCaster(first).visible([[0.0, 0.0, -0.12]], eye, 1e-4)) for eye in from_above]
    assert not any(seen)
    assert not hidden_cells(first, from_above, WORLD, plane)[40:89, 40:89, :59].any()  # between the legs


@pytest.mark.parametrize("below", [0.0, 0.2])
def test_a_hollow_that_the_ground_closes_is_filled(below: float) -> None:
    """The foot of a vase: no camera sees the ground below it, where a field may be hollow, too."""

    class Foot(SphereField):
        method = "analytic_foot"

        def distance(self, x: Tensor) -> Tensor:
            def box(middle: tuple[float, float, float], half: tuple[float, float, float]) -> Tensor:
                return ((x - x.new_tensor(middle)).abs() - x.new_tensor(half)).amax(dim=-1)

            body = torch.maximum(box((0.0, 0.0, -0.2), (0.4, 0.4, 0.4)), -box((0.0, 0.0, -0.6), (0.3, 0.3, 0.2)))
            pit = box((0.0, 0.0, -0.6), (0.3, 0.3, below))
            return torch.minimum(body, torch.maximum(x[:, 2] + 0.6, -pit))

    first = extract(Foot(quantity="sdf"), 64)
    from_above = [eye for eye in eyes() if eye[2] > 1.0]
    grid = hidden_cells(first, from_above, WORLD, Plane(normal=(0.0, 0.0, 1.0), offset=0.6))
    assert grid[50:79, 50:79, 30:35].all()
    assert not grid[:30].any() and not grid[:, :, 80:].any()
