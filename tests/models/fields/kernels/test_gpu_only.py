"""What only the GPU backend offers: half precision, and blocks of cells that it finds itself."""

from __future__ import annotations

import itertools

import pytest
import torch

from models.fields.kernels.levels import level_table
from tests.models.fields.kernels import backends, truth


@pytest.fixture(scope="module")
def gpu() -> backends.Backend:
    return backends.load("gpu")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_tables_are_read_as_they_are(gpu: backends.Backend, kind: torch.dtype) -> None:
    levels = level_table(3, 3, 20, 7)
    random = torch.Generator().manual_seed(0)
    entries = levels[-1].offset + levels[-1].size
    table = torch.randn(entries, 2, generator=random).to(kind)
    x = torch.rand(20, 3, generator=random).double().requires_grad_()
    slope = 1e-9 * torch.randn(6, 20, generator=random).double()
    exact = table.double().requires_grad_()
    expected = truth.encode(x, exact, levels)
    expected.backward(slope)
    assert exact.grad is not None and x.grad is not None

    points, d_out = gpu.put(x.detach(), slope)
    own = table.to(gpu.device)
    y = gpu.module.encode_forward(points, own, levels)
    d_table = torch.zeros(table.shape, device=gpu.device)
    d_x = gpu.module.encode_backward(points, own, levels, d_out, d_table, None, True)
    for found, wanted in ((y, expected.detach()), (d_table, exact.grad), (d_x, x.grad)):
        assert found.dtype == torch.float32
        assert (found.cpu().double() - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("widths", [(32, 64, 16), (16, 48, 48, 3)], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e-12], ids=["loss", "tiny loss"])
def test_half_networks_are_near_and_keep_small_gradients(
    gpu: backends.Backend, widths: tuple[int, ...], size: float
) -> None:
    """float16 multiplies 1e-12 to nothing, were the gradient not scaled. ReLUs near 0 may fall to the other side."""
    random = torch.Generator().manual_seed(0)
    weights = [torch.randn(b, a, generator=random).double() / a**0.5 for a, b in itertools.pairwise(widths)]
    x, slope = (torch.randn(width, 300, generator=random).double() for width in (widths[0], widths[-1]))
    x.requires_grad_()
    for weight in weights:
        weight.requires_grad_()
    expected = truth.mlp(x, weights)
    expected.backward(size * slope)
    assert x.grad is not None

    x_, slope_, *weights_ = gpu.put(x.detach(), size * slope, *(weight.detach() for weight in weights))
    y, saved = gpu.module.mlp_forward(x_, weights_, True)
    d_x, d_weights = gpu.module.mlp_backward(x_, weights_, saved, slope_, True)
    pairs = [(y, expected.detach()), (d_x, x.grad), *zip(d_weights, (w.grad for w in weights), strict=True)]
    for found, wanted in pairs:
        assert wanted is not None
        assert (found.cpu().double() - wanted).norm() <= 2e-2 * wanted.norm()


def test_adam_keeps_a_rounded_copy(gpu: backends.Backend) -> None:
    random = torch.Generator().manual_seed(0)
    param, gradient = gpu.put(torch.randn(64, generator=random), torch.randn(64, generator=random))
    copy = param.half()
    touched = torch.tensor([1, 0, 1, 0], dtype=torch.uint8, device=gpu.device)
    before = param.clone()
    moments = torch.zeros(2, 64, device=gpu.device)
    gpu.module.adam(param, *moments, gradient, touched, 0.1, 0.9, 0.99, 1e-15, 1, shadow=copy)
    assert torch.equal(copy, param.half())
    assert (param != before).reshape(4, 16).all(1).tolist() == [True, False, True, False]


def test_march_finds_blocks_itself(gpu: backends.Backend) -> None:
    random = torch.Generator().manual_seed(0)
    cells = (torch.rand(2, 16, 16, 16, generator=random) < 0.02).to(torch.uint8)
    blocks = torch.nn.functional.max_pool3d(cells.float()[None], 4)[0].to(torch.uint8)
    d = torch.nn.functional.normalize(torch.randn(20, 3, generator=random), dim=1)
    rays = gpu.put(-1.5 * d, d, torch.zeros(20), torch.full((20,), 3.0), torch.zeros(20))
    cells_, blocks_ = gpu.put(cells, blocks)
    for found, expected in zip(
        gpu.module.march(*rays, 0.1, cells_), gpu.module.march(*rays, 0.1, cells_, blocks_), strict=True
    ):
        assert torch.equal(found, expected)


def test_march_refuses_grids_that_do_not_divide(gpu: backends.Backend) -> None:
    o, t = torch.zeros(1, 3, device=gpu.device), torch.zeros(1, device=gpu.device)
    cells = torch.ones(1, 6, 6, 6, dtype=torch.uint8, device=gpu.device)
    with pytest.raises(ValueError, match="multiple of 4"):
        gpu.module.march(o, o, t, t, t, 0.1, cells)
