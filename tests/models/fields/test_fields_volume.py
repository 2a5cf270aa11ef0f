"""Volume rendering, ray marching and the occupancy grid against closed forms and brute force."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch

from models.fields.kernels import reference
from models.fields.kernels.ops import composite, reference_backend, visible_counts
from models.fields.march import cube_interval, march
from models.fields.occupancy import OccupancyGrid


def packed(counts: list[int]) -> torch.Tensor:
    """[R + 1] where each ray's samples start."""
    return torch.tensor([0, *counts]).cumsum(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_homogeneous_medium_absorbs_exponentially(dtype: torch.dtype) -> None:
    steps, length, density = 200, 1.5, 2.0
    offsets = packed([steps, 0, steps])
    values = torch.full((2 * steps,), density, dtype=dtype)
    t = (torch.arange(steps, dtype=dtype) * length / steps).repeat(2)
    seen = composite(values, torch.ones(2 * steps, 3, dtype=dtype), t, offsets, length / steps)
    left = math.exp(-density * length)
    assert seen.through.tolist() == pytest.approx([left, 1.0, left], rel=1e-5)
    assert seen.light[:, 1].tolist() == pytest.approx([1.0 - left, 0.0, 1.0 - left], rel=1e-5)
    counts = visible_counts(values, offsets, length / steps, math.exp(-1.0))
    assert counts.tolist() == pytest.approx([steps / (density * length), 0, steps / (density * length)], abs=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_opaque_sample_hides_what_follows(dtype: torch.dtype) -> None:
    density = torch.tensor([0.0, 1e6, 5.0, 3.0], dtype=dtype)
    rgb = torch.eye(4, dtype=dtype)[:, 1:].contiguous()
    seen = composite(density, rgb, torch.arange(4.0, dtype=dtype), packed([3, 1]), 0.1)
    assert seen.light[0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    assert seen.light[1].tolist() == pytest.approx([0.0, 0.0, 1.0 - math.exp(-0.3)], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_spread_is_its_double_sum(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    t = torch.tensor([0.1, 0.2, 0.4, 0.7, 0.8, 1.0, 1.5, 1.6], dtype=dtype)
    density = torch.rand(8, generator=generator, dtype=dtype) * 5
    offsets = packed([5, 3])
    weights, _ = reference.weights_of(density, offsets, 0.1)
    found = composite(density, torch.zeros(8, 3, dtype=dtype), t, offsets, 0.1).spread
    for number, part in enumerate((slice(0, 5), slice(5, 8))):
        w, s = weights[part], t[part]
        expected = (w[:, None] * w * (s[:, None] - s).abs()).sum() + (w * w).sum() * 0.1 / 3
        assert float(found[number]) == pytest.approx(float(expected), rel=1e-5)


def test_gradients_of_compositing() -> None:
    offsets = packed([4, 0, 1, 6])
    generator = torch.Generator().manual_seed(0)
    density = torch.rand(11, dtype=torch.float64, generator=generator).mul_(5).requires_grad_()
    rgb = torch.rand(11, 3, dtype=torch.float64, generator=generator).requires_grad_()
    t = torch.cat([torch.arange(n, dtype=torch.float64) for n in (4, 1, 6)])
    assert torch.autograd.gradcheck(lambda a, b: tuple(composite(a, b, t, offsets, 0.3)), (density, rgb))


def test_interval_of_the_cube() -> None:
    rays_o = torch.tensor([[-3.0, 0.0, 0.0], [0.5, 0.0, 0.0], [-3.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    rays_d = torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)
    t_in, t_out = cube_interval(rays_o, rays_d, near=0.1)
    assert t_in[:2].tolist() == pytest.approx([2.0, 0.1])
    assert t_out[:2].tolist() == pytest.approx([4.0, 0.5])
    assert bool((t_out[2:] <= t_in[2:]).all())


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("cascades", [1, 2, 3])
def test_marching_leaves_out_nothing_occupied(cascades: int, native: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = OccupancyGrid(32, cascades)
    grid.forbid(torch.rand(cascades, 32, 32, 32, generator=generator) > 0.01)
    rays_o = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=1) * 3 * grid.extent
    aim = torch.rand(200, 3, generator=generator) * 1.6 - 0.8
    rays_d = torch.nn.functional.normalize(aim - rays_o, dim=1)
    t_in, t_out = cube_interval(rays_o, rays_d, extent=grid.extent)
    jitter = torch.rand(200, generator=generator)
    with nullcontext() if native else reference_backend():
        every = march(rays_o, rays_d, t_in, t_out, 0.02, jitter, None)
        some = march(rays_o, rays_d, t_in, t_out, 0.02, jitter, grid)
    x = every.places(rays_o, rays_d)
    number = torch.cat([torch.arange(n) for n in (every.offsets[1:] - every.offsets[:-1]).tolist()])
    expected_t = t_in[every.ray] + (number + jitter[every.ray]) * 0.02
    assert torch.allclose(every.t, expected_t, atol=1e-5)
    assert torch.equal(every.offsets[1:] - every.offsets[:-1], torch.ceil((t_out - t_in) / 0.02 - jitter).long())
    size = x.abs().amax(1)
    cascade = (size[:, None] > torch.tensor([1.0, 2.0])[: cascades - 1]).sum(1)
    cell = ((x / 2.0 ** cascade[:, None] + 1) * 16).long().clamp(0, 31)
    kept = grid.occupied_cells[cascade, cell[:, 2], cell[:, 1], cell[:, 0]] > 0
    assert 0 < int(kept.sum()) < len(kept) / 10
    assert torch.equal(some.ray, every.ray[kept])
    assert torch.allclose(some.t, every.t[kept], atol=1e-5)


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
    forbidden = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    forbidden[..., :8] = True
    grid.forbid(forbidden)
    grid.refresh(density, torch.arange(16**3), 1.0, generator)
    assert not bool(grid.occupied(x[x[:, 0] < 0]).any())
    assert bool(grid.occupied(x[deep & (x[:, 0] > 0)]).all())
