"""Volume rendering, ray marching and the occupancy grid against closed forms and brute force."""

from __future__ import annotations

import math

import pytest
import torch

from models.fields.march import COARSE_STEPS, cube_interval, march
from models.fields.occupancy import COARSE, OccupancyGrid
from models.fields.volume import distortion, render_weights, sum_along_rays


def packed(counts: list[int]) -> torch.Tensor:
    """[N] which ray each sample belongs to."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def test_homogeneous_medium_absorbs_exponentially() -> None:
    steps, length, density = 200, 1.5, 2.0
    ray = packed([steps, 0, steps])
    values = torch.full((len(ray),), density, dtype=torch.float64)
    weights, transmittance = render_weights(values, length / steps, ray, 3)
    opacity = sum_along_rays(weights[:, None], ray, 3)[:, 0]
    expected = 1.0 - math.exp(-density * length)
    assert opacity.tolist() == pytest.approx([expected, 0.0, expected])
    t = (torch.arange(steps, dtype=torch.float64) * length / steps).repeat(2)
    assert torch.allclose(transmittance, torch.exp(-density * t))


def test_an_opaque_sample_hides_what_follows() -> None:
    weights, _ = render_weights(torch.tensor([0.0, 1e6, 5.0, 3.0]), 0.1, packed([3, 1]), 2)
    assert weights.tolist() == pytest.approx([0.0, 1.0, 0.0, 1.0 - math.exp(-0.3)], abs=1e-6)


def test_gradients_of_weights_and_distortion() -> None:
    ray = packed([4, 0, 1, 6])
    generator = torch.Generator().manual_seed(0)
    density = torch.rand(len(ray), dtype=torch.float64, generator=generator).mul_(5).requires_grad_()
    delta = torch.rand(len(ray), dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: render_weights(a, b, ray, 4)[0], (density, delta))
    weights = torch.rand(len(ray), dtype=torch.float64, generator=generator).requires_grad_()
    t = torch.cat([torch.arange(n, dtype=torch.float64) for n in (4, 1, 6)])
    assert torch.autograd.gradcheck(lambda w: distortion(w, t, 1.0, ray, 4), (weights,))


def test_distortion_is_its_double_sum() -> None:
    ray, t = packed([5, 3]), torch.tensor([0.1, 0.2, 0.4, 0.7, 0.8, 1.0, 1.5, 1.6])
    weights = torch.rand(8, generator=torch.Generator().manual_seed(3))
    found = distortion(weights, t, 0.1, ray, 2)
    for number, part in enumerate((slice(0, 5), slice(5, 8))):
        w, s = weights[part], t[part]
        expected = (w[:, None] * w * (s[:, None] - s).abs()).sum() + (w * w).sum() * 0.1 / 3
        assert float(found[number]) == pytest.approx(float(expected), rel=1e-5)


def test_interval_of_the_cube() -> None:
    rays_o = torch.tensor([[-3.0, 0.0, 0.0], [0.5, 0.0, 0.0], [-3.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    rays_d = torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)
    t_in, t_out = cube_interval(rays_o, rays_d, near=0.1)
    assert t_in[:2].tolist() == pytest.approx([2.0, 0.1])
    assert t_out[:2].tolist() == pytest.approx([4.0, 0.5])
    assert bool((t_out[2:] <= t_in[2:]).all())


def test_marching_leaves_out_nothing_occupied() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = OccupancyGrid(32)
    grid.occupied_cells = (torch.rand(32, 32, 32, generator=generator) < 0.01).to(torch.uint8)
    grid.refresh_coarse()
    rays_o = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=1) * 3
    aim = torch.rand(200, 3, generator=generator) * 1.6 - 0.8
    rays_d = torch.nn.functional.normalize(aim - rays_o, dim=1)
    t_in, t_out = cube_interval(rays_o, rays_d)
    step = 2.0 / 32 * COARSE / COARSE_STEPS
    jitter = torch.rand(200, generator=generator)
    every = march(rays_o, rays_d, t_in, t_out, step, jitter, None)
    some = march(rays_o, rays_d, t_in, t_out, step, jitter, grid)
    kept = grid.occupied(rays_o[every.ray] + every.t[:, None] * rays_d[every.ray])
    assert 0 < int(kept.sum()) < len(kept) / 10
    assert torch.equal(some.ray, every.ray[kept])
    assert torch.equal(some.t, every.t[kept])
    with pytest.raises(ValueError, match="step"):
        march(rays_o, rays_d, t_in, t_out, 2 * step, jitter, grid)


def test_occupancy_keeps_every_dense_cell_and_nothing_forbidden() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = OccupancyGrid(16)

    def density(x: torch.Tensor) -> torch.Tensor:
        return (x.norm(dim=1) < 0.6).float() * 100.0

    for turn in range(32):
        grid.refresh(density, grid.scheduled(turn, turn < 16, generator), 1.0, generator)
    x = torch.rand(20_000, 3, generator=generator) * 2 - 1
    deep = x.norm(dim=1) < 0.6 - 2 * 2.0 / 16
    outside = x.norm(dim=1) > 0.6 + 2 * 2.0 / 16
    assert bool(grid.occupied(x[deep]).all())
    assert not bool(grid.occupied(x[outside]).any())
    forbidden = torch.zeros(16, 16, 16, dtype=torch.bool)
    forbidden[:, :, :8] = True
    grid.forbid(forbidden)
    grid.refresh(density, torch.arange(16**3), 1.0, generator)
    assert not bool(grid.occupied(x[x[:, 0] < 0]).any())
    assert bool(grid.occupied(x[deep & (x[:, 0] > 0)]).all())
