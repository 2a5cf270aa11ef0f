"""The radiance field and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.errors import DigitizeError, ReasonCode
from models.fields import load_field
from models.fields.background import back_edges, contract, front_edges
from models.fields.hash_density import HashDensityField
from tests.models.fields.analytic import SphereField, TorusField


def small_field(background_levels: int = 2, background: str = "small") -> HashDensityField:
    field = HashDensityField(
        levels=3,
        base_resolution=4,
        max_resolution=32,
        log2_table=9,
        hidden=16,
        features=8,
        colour_layers=1,
        occupancy_resolution=16,
        step=0.02,
        background_levels=background_levels,
        near=0.1,
        background=background,
    )
    field.reset(torch.Generator().manual_seed(0))
    field.encoding.reset(torch.Generator().manual_seed(1), scale=0.5)
    return field


@pytest.mark.parametrize(("background_levels", "background"), [(0, "small"), (2, "small"), (2, "large")])
def test_a_saved_field_comes_back_the_same(tmp_path: Path, background_levels: int, background: str) -> None:
    field = small_field(background_levels, background)
    field.level = 12.5
    field.cells.forbid(torch.rand(1, 16, 16, 16) < 0.3)
    field.save(tmp_path / "a")
    again = load_field(tmp_path / "a")
    again.save(tmp_path / "b")
    x, d = torch.rand(50, 3) * 2 - 1, torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    for one, other in zip(field.query(x), again.query(x), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(field.color(x, d, field.query(x)[1]), again.color(x, d, again.query(x)[1]))
    seen = [surroundings(each, x, d) for each in (field, again)]
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))
    assert again.level == 12.5
    assert again.quantity == "density"
    assert again.occupancy is not None and torch.equal(again.occupancy, field.cells.occupied_cells[0])
    for file in ("field.json", "field.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def surroundings(field: HashDensityField, o: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What rays from inside the cube see outside."""
    start, end = torch.full((len(o),), 0.1), torch.full((len(o),), 3.5)
    return field.surroundings(o, d, start, end, torch.ones(len(o), dtype=torch.bool))


def test_only_a_large_background_changes_with_the_direction_of_view() -> None:
    place = torch.tensor([[3.0, 1.0, -2.0]]).expand(2, 3)
    views = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for size, same in (("small", True), ("large", False)):
        model = small_field(2, size).outside
        assert model is not None
        density, colour = model(place, views)
        assert torch.allclose(density[0], density[1])
        assert bool(torch.allclose(colour[0], colour[1])) is same


def test_gradient_is_the_slope_of_the_value() -> None:
    field = small_field().double()
    x = torch.rand(20, 3, dtype=torch.float64) * 1.8 - 0.9
    slope, h = field.gradient(x), 1e-7
    for axis in range(3):
        offset = torch.zeros(3, dtype=torch.float64)
        offset[axis] = h
        difference = (field.query(x + offset)[0] - field.query(x - offset)[0]) / (2 * h)
        assert torch.allclose(slope[:, axis], difference, rtol=1e-4, atol=1e-6)


def test_damaged_and_unknown_fields_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DigitizeError) as missing:
        load_field(tmp_path)
    assert missing.value.code is ReasonCode.SOURCE_NOT_FOUND
    small_field().save(tmp_path)
    good = json.loads((tmp_path / "field.json").read_text())
    for change in ({"method": "no_such"}, {"version": "0"}, {"level": "nan"}, {"config": {}}):
        (tmp_path / "field.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(DigitizeError) as refused:
            load_field(tmp_path)
        assert refused.value.code is ReasonCode.UNSUPPORTED_FORMAT
    (tmp_path / "field.json").write_text(json.dumps(good))
    (tmp_path / "field.safetensors").write_bytes(b"damaged")
    with pytest.raises(DigitizeError, match="not a readable field"):
        load_field(tmp_path)


def test_space_is_contracted_into_twice_the_cube() -> None:
    x = torch.randn(1000, 3) * torch.logspace(-2, 4, 1000)[:, None]
    inside = x.abs().amax(1) <= 1
    assert torch.allclose(contract(x)[inside], x[inside])
    assert float(contract(x).abs().max()) <= 2.0


def test_intervals_outside_the_cube_meet_it() -> None:
    t = torch.tensor([0.5, 2.0, 9.0])
    front, back = front_edges(t, 0.1, 4), back_edges(t, 10)
    assert torch.allclose(front[:, -1], t)
    assert float(front.min()) >= 0.1 - 1e-6
    assert bool((front.diff(dim=1) > 0).all())
    assert torch.equal(back[:, 0], t)
    assert bool((back.diff(dim=1) > 0).all())
    assert bool(torch.isinf(back[:, -1]).all())


def test_behind_the_cube_everything_ends() -> None:
    field = small_field()
    rays_d = torch.nn.functional.normalize(torch.randn(30, 3), dim=1)
    rays_o = -3.0 * rays_d
    t_in, t_out = torch.full((30,), 2.0), torch.full((30,), 4.0)
    with torch.no_grad():
        front, through, behind = field.surroundings(rays_o, rays_d, t_in, t_out, torch.arange(30) < 20)
    assert bool(((through >= 0) & (through <= 1)).all())
    assert bool((front >= 0).all())
    assert float(behind[:20].min()) > 0.0
    assert torch.equal(behind[20:], torch.zeros(10, 3))


@pytest.mark.parametrize("shape", [SphereField(0.4, (0.1, 0.0, 0.0), "sdf"), SphereField(), TorusField(quantity="sdf")])
def test_analytic_fields(tmp_path: Path, shape: SphereField) -> None:
    shape.save(tmp_path)
    again = load_field(tmp_path)
    x = torch.rand(100, 3) * 2 - 1
    assert torch.equal(again.query(x)[0], shape.query(x)[0])
    inside = again.query(x)[0] > again.level if again.quantity == "density" else again.query(x)[0] < again.level
    assert torch.equal(inside, shape.distance(x) < 0)
    assert bool((again.density_of(again.query(x)[0]) >= 0).all())
