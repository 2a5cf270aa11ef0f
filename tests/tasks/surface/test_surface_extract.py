"""Extraction against shapes of known volume, area and topology, and against marching cubes over the whole grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from models.errors import DigitizeError, ReasonCode
from models.fields.base import Field
from models.mesh.topology import face_areas, signed_volume
from tasks.surface import extract as module
from tasks.surface.checks import check_walls, statistics
from tasks.surface.extract import NUDGE, extract
from tasks.surface.sampler import LIMIT
from tests.models.fields.analytic import SphereField, TorusField


class Waves(Field):
    """A wavy sheet with many tunnels: the surface passes nearly everywhere."""

    method = "surface_test_waves"
    quantity = "sdf"
    level = 0.0

    def query(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = 9.0 * x
        value = torch.sin(a[:, 0]) * torch.cos(a[:, 1]) + torch.sin(a[:, 1]) * torch.cos(a[:, 2])
        return (value + torch.sin(a[:, 2]) * torch.cos(a[:, 0])) / 12.0, x


@pytest.mark.parametrize("kind", ["sdf", "density"])
def test_sphere_has_its_radius_area_and_outward_faces(kind: str) -> None:
    field = SphereField(0.5, quantity=kind)
    mesh = extract(field, 96)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    cell = 2.0 / 96
    assert np.abs(radius - 0.5).max() < (0.05 if kind == "sdf" else 0.6) * cell
    assert signed_volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.005 if kind == "sdf" else 0.05)
    assert face_areas(mesh).sum() == pytest.approx(np.pi, rel=0.005 if kind == "sdf" else 0.05)
    figures = statistics(mesh)
    assert figures["watertight"]
    assert (figures["components"], figures["genus"]) == (1, 0)


@pytest.mark.parametrize("smooth", [0.0, 0.8])
def test_torus_has_one_tunnel(smooth: float) -> None:
    mesh = extract(TorusField(quantity="sdf"), 64, smooth_cells=smooth)
    figures = statistics(mesh)
    assert figures["watertight"]
    assert (figures["components"], figures["genus"]) == (1, 1)
    assert signed_volume(mesh) == pytest.approx(2 * np.pi**2 * 0.5 * 0.2**2, rel=0.03)


def test_slabs_and_bricks_equal_the_dense_grid() -> None:
    field, n = Waves(), 64
    mesh = extract(field, n)
    axis = np.arange(n + 1) * (2.0 / n) - 1.0
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    value = field.query(torch.from_numpy(grid))[0].numpy().reshape(n + 1, n + 1, n + 1)
    inside = np.clip(-value * n / 2, -LIMIT, LIMIT)
    for k in range(3):
        for end in (0, -1):
            inside[(slice(None),) * k + (end,)] = -LIMIT
    inside = np.where(np.abs(inside) < NUDGE, np.where(inside < 0, -NUDGE, NUDGE), inside).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(inside, 0.0, gradient_direction="ascent")
    assert mesh.faces.shape == faces.shape
    assert mesh.vertices.shape == vertices.shape
    distance, nearest = cKDTree(vertices * (2.0 / n) - 1.0).query(mesh.vertices)
    assert distance.max() < 1e-4
    assert len(np.unique(nearest)) == len(vertices)
    assert statistics(mesh)["watertight"]


def test_only_bricks_near_the_surface_are_evaluated() -> None:
    field, asked = SphereField(0.5, quantity="sdf"), []
    plain = field.query
    field.query = lambda x: (asked.append(len(x)), plain(x))[1]  # type: ignore[method-assign, func-returns-value]
    extract(field, 128)
    assert sum(asked) < 0.4 * 129**3


def test_what_reaches_the_walls_is_closed_there() -> None:
    mesh = extract(SphereField(1.2, quantity="sdf"), 64)
    figures = statistics(mesh)
    assert figures["watertight"]
    assert np.abs(mesh.vertices).max() <= 1.0
    assert figures["volume"] > 0


def test_cells_without_occupancy_are_empty() -> None:
    class HalfOccupied(SphereField):
        method = "analytic_half_occupied"

        @property
        def occupancy(self) -> torch.Tensor:
            occupied = torch.zeros(16, 16, 16, dtype=torch.bool)
            occupied[:, :, 8:] = True
            return occupied

    mesh = extract(HalfOccupied(0.5, quantity="sdf"), 64)
    assert mesh.vertices[:, 0].min() > -0.2
    assert mesh.vertices[:, 0].max() == pytest.approx(0.5, abs=0.02)
    assert statistics(mesh)["watertight"]


def test_level_moves_the_surface_and_nothing_is_empty() -> None:
    field = SphereField(0.5, quantity="sdf")
    assert np.linalg.norm(extract(field, 64, level=0.2).vertices, axis=1).mean() == pytest.approx(0.7, abs=0.01)
    assert len(extract(field, 64, level=-0.9).faces) == 0


def test_a_stop_is_noticed_within_the_grid() -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        extract(SphereField(), 32, check=stop)


class Plates(Field):
    """Two parallel plates so thin that no coarse sample need fall inside, as an exact distance."""

    method = "surface_test_plates"
    quantity = "sdf"
    level = 0.0

    def query(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        box = torch.tensor([0.7, 0.7, 0.006], dtype=x.dtype)
        shifted = torch.stack([x[:, 0], x[:, 1], x[:, 2].abs() - 0.217], 1)
        over = shifted.abs() - box
        return over.clamp(min=0).norm(dim=1) + over.max(1).values.clamp(max=0), x


def test_plates_thinner_than_the_coarse_grid_are_found_whole() -> None:
    mesh = extract(Plates(), 256)
    figures = statistics(mesh)
    assert (figures["components"], figures["genus"]) == (2, 0)
    assert figures["volume"] == pytest.approx(2 * 1.4 * 1.4 * 0.012, rel=0.03)


class Broken(SphereField):
    """A ball some of whose values are not finite."""

    method = "surface_test_broken"

    def query(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, feature = super().query(x)
        return torch.where((x[:, 0] > 0.9) & (x[:, 1] > 0.9), torch.full_like(value, torch.nan), value), feature


def test_values_that_are_not_finite_are_refused_unless_they_are_few_and_allowed() -> None:
    with pytest.raises(DigitizeError) as caught:
        extract(Broken(0.5, quantity="sdf"), 64)
    assert caught.value.code == ReasonCode.NOT_FINITE
    mesh = extract(Broken(0.5, quantity="sdf"), 64, broken_share=0.2)
    assert signed_volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.005)


def test_a_field_with_its_sign_turned_fills_the_walls_and_is_turned_back() -> None:
    class Turned(SphereField):
        method = "surface_test_turned"

        def query(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            value, feature = super().query(x)
            return -value, feature

    with pytest.raises(DigitizeError) as caught:
        check_walls(extract(Turned(0.5, quantity="sdf"), 64), 64)
    assert caught.value.code == ReasonCode.INSIDE_OUT
    mesh = extract(Turned(0.5, quantity="sdf"), 64, flip=True)
    check_walls(mesh, 64)
    assert signed_volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.005)


class Noise(Field):
    """Unrelated values at neighbouring samples: every case of marching cubes, the ambiguous ones as well."""

    method = "surface_test_noise"
    quantity = "sdf"
    level = 0.0

    def query(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chaos = torch.sin(x[:, 0] * 311.7 + x[:, 1] * 127.1 + x[:, 2] * 74.7) * 437.58
        return 0.05 * torch.sin(chaos) + 0.01, x


def test_noise_stays_closed() -> None:
    mesh = extract(Noise(), 32)
    assert len(mesh.faces) > 20_000
    assert statistics(mesh)["boundary_edges"] == 0
    cell = 2.0 / 32
    assert np.linalg.norm(mesh.triangles - np.roll(mesh.triangles, 1, axis=1), axis=2).max() < 2 * cell


def test_welding_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_edge_keys", lambda index, cells, first: first + np.arange(len(index)))
    mesh = extract(SphereField(quantity="sdf"), 32)
    assert not statistics(replace(mesh))["watertight"]
