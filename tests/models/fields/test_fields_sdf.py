"""The signed distance field: a sphere at first, slopes by differences, rendering that follows NeuS's equations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.fields import load_field
from models.fields.hash_sdf import HashSDFField
from models.fields.march import Samples

SMALL = {
    "levels": 6,
    "base_resolution": 8,
    "max_resolution": 64,
    "log2_table": 12,
    "hidden": 16,
    "features": 8,
    "colour_layers": 1,
    "occupancy_resolution": 16,
    "step": 0.02,
    "background_levels": 0,
    "near": 0.0,
}


@pytest.fixture
def field() -> HashSDFField:
    made = HashSDFField(0.5, **SMALL)
    made.reset(torch.Generator().manual_seed(0))
    return made


def test_it_starts_as_a_sphere(field: HashSDFField) -> None:
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    value, _ = field.query(x)
    assert torch.allclose(value, x.norm(dim=1) - 0.5, atol=2e-3)
    x = x[(x.norm(dim=1) > 0.3) & (x.abs() < 0.9).all(1)]
    slope, _ = field.slope(x)
    assert torch.allclose(torch.nn.functional.normalize(slope, dim=1), x / x.norm(dim=1, keepdim=True), atol=0.1)


def test_slopes_are_exact_for_what_is_linear(field: HashSDFField, monkeypatch: pytest.MonkeyPatch) -> None:
    direction = torch.tensor([0.3, -1.2, 0.5])
    monkeypatch.setattr(field, "query", lambda x: (x @ direction + 0.1, x))
    x = torch.rand(50, 3) - 0.5
    slope, mean = field.slope(x, 0.01)
    assert torch.allclose(slope, direction.expand(50, 3), atol=1e-4)
    assert torch.allclose(mean, x @ direction + 0.1, atol=1e-5)


def test_levels_that_are_off_say_nothing(field: HashSDFField) -> None:
    with torch.no_grad():
        field.encoding.table.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.rand(100, 3) - 0.5
    field.active = 3
    coarse = field.query(x)[0]
    with torch.no_grad():
        field.encoding.table[field.encoding.levels[3].offset :] = 7.0
    assert torch.equal(field.query(x)[0], coarse)
    field.active = 6
    assert not torch.allclose(field.query(x)[0], coarse, atol=1e-2)


def test_transmittance_is_the_logistic_function_of_the_distance(field: HashSDFField) -> None:
    """NeuS, eq. 13: where the distance falls along a ray, the product of 1 - alpha is a ratio of logistic functions."""
    field.sharpness.fill_(80.0)
    t = torch.arange(60) * field.step
    value = 0.6 - t
    samples = Samples(torch.zeros(60, dtype=torch.int64), t, torch.tensor([0, 60]))
    density = field.density_along(value, samples)
    through = torch.exp(-(density * field.step).cumsum(0))
    ends = value - 0.5 * field.step
    expected = torch.sigmoid(80.0 * ends) / torch.sigmoid(80.0 * (value[0] + 0.5 * field.step))
    assert torch.allclose(through, expected, atol=1e-4)


def test_rising_distances_and_other_rays_hide_nothing(field: HashSDFField) -> None:
    t = torch.tensor([0.0, 0.02, 0.04, 0.0, 0.02, 0.5])
    ray = torch.tensor([0, 0, 0, 1, 1, 1])
    rising = torch.tensor([0.01, 0.02, 0.03, 0.02, 0.03, -0.4])
    density = field.density_along(rising, Samples(ray, t, torch.tensor([0, 3, 6])))
    assert torch.equal(density, torch.zeros(6))


def test_it_is_saved_and_read(field: HashSDFField, tmp_path: Path) -> None:
    field.sharpness.fill_(321.0)
    field.save(tmp_path)
    again = load_field(tmp_path)
    assert isinstance(again, HashSDFField)
    x = torch.rand(100, 3) - 0.5
    assert torch.equal(again.query(x)[0], field.query(x)[0])
    assert float(again.sharpness) == 321.0
    assert (again.quantity, again.level, again.radius) == ("sdf", 0.0, 0.5)
