"""Vanilla NeRF: encoding and sampling against their definitions and closed forms, the field against its files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from models.fields import load_field
from models.fields.frequency import frequencies_for, frequency_encode, frequency_width
from models.fields.hierarchical import integrate, resample, stratified
from models.fields.nerf import NerfField
from tests.models.fields.analytic import SphereField


def small_field(depth: int = 4, background: float = 0.0) -> NerfField:
    field = NerfField(
        depth=depth,
        width=16,
        position_frequencies=3,
        direction_frequencies=2,
        occupancy_resolution=16,
        step=0.02,
        near=0.1,
        background=background,
    )
    field.reset(torch.Generator().manual_seed(0))
    return field


def test_the_encoding_is_its_definition() -> None:
    x = torch.rand(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = frequency_encode(x, 4)
    assert found.shape == (7, frequency_width(2, 4)) == (7, 18)
    for row, point in zip(found.tolist(), x.tolist(), strict=True):
        sines = [math.sin(2**k * math.pi * c) for c in point for k in range(4)]
        cosines = [math.cos(2**k * math.pi * c) for c in point for k in range(4)]
        assert row == pytest.approx([*point, *sines, *cosines], abs=1e-12)
    assert torch.equal(frequency_encode(x, 0), x)
    assert [frequencies_for(n) for n in (1, 8, 64, 100)] == [1, 2, 5, 5]


def test_stratified_samples_stay_in_their_parts() -> None:
    t_in, t_out = torch.tensor([1.0, 0.5]), torch.tensor([3.0, 0.9])
    even = stratified(t_in, t_out, 4, None)
    assert even[0].tolist() == pytest.approx([1.25, 1.75, 2.25, 2.75])
    t = torch.stack([stratified(t_in, t_out, 4, torch.Generator().manual_seed(seed)) for seed in range(500)])
    low = t_in[:, None] + (t_out - t_in)[:, None] * torch.arange(4) / 4
    part = (t_out - t_in)[:, None] / 4
    assert bool(((t >= low - 1e-6) & (t <= low + part + 1e-6)).all())
    assert torch.allclose(t.mean(0), even, atol=0.05)


@pytest.mark.parametrize("seed", [None, 3])
def test_resampling_follows_the_weights(seed: int | None) -> None:
    """The shares of samples between the middles of the given ones are the inner weights' shares."""
    t = torch.linspace(0.0, 1.0, 6).expand(2, 6) + torch.tensor([[0.0], [2.0]])
    weights = torch.tensor([[9.0, 1.0, 0.0, 3.0, 4.0, 9.0], [9.0, 0.0, 0.0, 0.0, 0.0, 9.0]])
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    found = resample(t, weights, 4000, generator)
    assert bool((found.diff(dim=1) >= 0).all())
    for row, shares in enumerate(([0.125, 0.0, 0.375, 0.5], [0.25] * 4)):
        histogram = torch.histc(found[row] - t[row, 0], 4, 0.1, 0.9) / 4000
        assert histogram.tolist() == pytest.approx(shares, abs=1e-2)


def test_a_homogeneous_medium_absorbs_exponentially() -> None:
    t = stratified(torch.zeros(1, dtype=torch.float64), torch.full((1,), 1.5, dtype=torch.float64), 200, None)
    density, rgb = torch.full_like(t, 2.0), torch.full((1, 200, 3), 0.5, dtype=torch.float64)
    light, through, weights = integrate(density, rgb, t, torch.tensor([1.5], dtype=torch.float64))
    expected = math.exp(-2.0 * (1.5 - float(t[0, 0])))
    assert float(through) == pytest.approx(expected)
    assert light[0].tolist() == pytest.approx([0.5 * (1.0 - expected)] * 3)
    before = torch.exp(-2.0 * (t[0, :-1] - t[0, 0]))
    assert torch.allclose(weights[0, :-1], before * (1.0 - math.exp(-2.0 * 1.5 / 200)))


def test_gradients_of_the_integral() -> None:
    generator = torch.Generator().manual_seed(0)
    density = torch.rand(2, 5, dtype=torch.float64, generator=generator).mul_(5).requires_grad_()
    rgb = torch.rand(2, 5, 3, dtype=torch.float64, generator=generator).requires_grad_()
    t = torch.rand(2, 5, dtype=torch.float64, generator=generator).sort(1).values
    t_out = torch.ones(2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, c: integrate(s, c, t, t_out), (density, rgb))


def test_the_paper_s_network_has_the_paper_s_weights() -> None:
    """Figure 7, with the coordinates beside their waves as in the authors' program: 595 844 numbers."""
    field = NerfField(8, 256, 10, 4, 16, 0.02, 0.1, 0.0)
    assert [layer.in_features for layer in field.fine.trunk] == [63] + [256] * 4 + [319] + [256] * 2
    assert sum(parameter.numel() for parameter in field.fine.parameters()) == 595_844


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_saved_field_comes_back_the_same(tmp_path: Path, depth: int) -> None:
    field = small_field(depth, background=1.0)
    field.bake(0.3, torch.Generator().manual_seed(0))
    field.save(tmp_path / "a")
    again = load_field(tmp_path / "a")
    again.save(tmp_path / "b")
    x, d = torch.rand(50, 3) * 2 - 1, torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    value, feature = field.query(x)
    assert torch.equal(value, again.query(x)[0])
    assert torch.equal(field.color(x, d, feature), again.color(x, d, again.query(x)[1]))
    assert (again.quantity, again.level, again.step) == ("density", field.level, 0.02)
    assert again.occupancy is not None and torch.equal(again.occupancy, field.cells.occupied_cells[0])
    for file in ("field.json", "field.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_gradient_is_the_slope_of_the_value() -> None:
    field = small_field().double()
    x = torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
    slope, h = field.gradient(x), 1e-7
    for axis in range(3):
        offset = torch.zeros(3, dtype=torch.float64)
        offset[axis] = h
        difference = (field.query(x + offset)[0] - field.query(x - offset)[0]) / (2 * h)
        assert torch.allclose(slope[:, axis], difference, rtol=1e-4, atol=1e-6)


def test_both_networks_are_learnt_from_their_own_light() -> None:
    field = small_field()
    rays_o = torch.tensor([[0.0, 0.0, -3.0]]).expand(8, 3)
    rays_d = torch.nn.functional.normalize(torch.rand(8, 3) * 0.2 + torch.tensor([-0.1, -0.1, 1.0]), dim=1)
    bounds = torch.full((8,), 2.1), torch.full((8,), 4.0)
    coarse, fine = field.render(rays_o, rays_d, *bounds, (6, 5), torch.Generator().manual_seed(0))
    for one, own, other in ((coarse, field.coarse, field.fine), (fine, field.fine, field.coarse)):
        assert bool(((one[1] > 0) & (one[1] < 1)).all())
        loss = one[0].sum() + one[1].sum()
        grads = torch.autograd.grad(loss, list(own.parameters()), retain_graph=True, allow_unused=True)
        assert all(grad is not None and bool((grad != 0).any()) for grad in grads)
        unused = torch.autograd.grad(loss, list(other.parameters()), retain_graph=True, allow_unused=True)
        assert all(grad is None for grad in unused)


def test_what_is_behind_the_cube_has_the_background_s_brightness() -> None:
    rays = torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(3), torch.ones(3)
    seen = torch.tensor([True, False, True])
    assert small_field(background=1.0).surroundings(*rays, seen)[2].tolist() == [[1.0] * 3, [0.0] * 3, [1.0] * 3]
    assert not small_field().surroundings(*rays, seen)[2].any()


def test_the_baked_grid_leaves_out_nothing_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    field, ball = small_field(), SphereField(0.4)
    monkeypatch.setattr(field, "query", ball.query)
    field.cells.forbid(torch.arange(16)[:, None, None].expand(16, 16, 16) < 4)
    field.bake(1.0, torch.Generator().manual_seed(0))
    x = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    dense = ball.query(x)[0] > 1.0
    visible = x[:, 2] > -0.5
    assert bool(field.cells.occupied(x[dense & visible]).all())
    assert not bool(field.cells.occupied(x[~visible]).any())
    assert 0.0 < field.cells.share < 0.25
