"""Networks on the matrix unit: what rounding to bfloat16 with sums in float32 gives, and not a bit more."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from models.fields.kernels import cpu

WIDTHS = [(32, 64, 16), (31, 64, 64, 3), (5, 20, 1), (3, 7, 7, 2), (8, 96, 4), (6, 5), (33, 40, 17, 8, 2)]


@pytest.fixture(autouse=True)
def _matrix_unit() -> None:
    if not cpu.available() or not cpu._half("half"):
        pytest.skip("this processor has no AMX, or its kernels are not built")


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().double()


def emulate(x: Tensor, weights: list[Tensor], dy: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """y, d_x and d_weights in float64 of operands rounded wherever the kernel rounds them."""
    seen, out = [rounded(x)], rounded(x)
    for number, weight in enumerate(weights):
        out = rounded(weight) @ seen[-1]
        if number < len(weights) - 1:
            seen.append(rounded(out.float()).clamp(min=0))
    slope, gradients = rounded(dy), []
    for weight, before in zip(weights[::-1], seen[::-1], strict=True):
        gradients.append(slope @ before.t())
        slope = rounded(weight).t() @ slope
        dx = slope
        slope = rounded(slope.float()) * (before > 0)
    return out, dx, gradients[::-1]


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Sums of float32 in another order round a few numbers the other way: rarely, and by a bfloat16's last place."""
    assert float((found.double() - expected).norm()) <= 4e-3 * float(expected.norm())


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("count", [1, 130, 5000])
def test_equals_rounded_arithmetic(widths: tuple[int, ...], count: int) -> None:
    random = torch.Generator().manual_seed(count)
    weights = [torch.randn(b, a, generator=random) / a**0.5 for a, b in itertools.pairwise(widths)]
    x, dy = (torch.randn(width, count, generator=random) for width in (widths[0], widths[-1]))
    y, kept = cpu.mlp_forward(x, weights, True)
    assert kept is not None
    dx, gradients = cpu.mlp_backward(x, weights, kept, dy, True)
    expected, expected_dx, expected_gradients = emulate(x, weights, dy)
    assert_near(y, expected)
    assert dx is not None
    assert_near(dx, expected_dx)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        assert_near(found, wanted)


def test_does_not_depend_on_threads_and_float32_stays() -> None:
    random = torch.Generator().manual_seed(1)
    weights = [torch.randn(64, 32, generator=random), torch.randn(16, 64, generator=random)]
    x, dy = torch.randn(32, 20_000, generator=random), torch.randn(16, 20_000, generator=random)
    found = []
    for threads in (1, 2):
        before = cpu.set_threads(threads)
        y, kept = cpu.mlp_forward(x, weights, True)
        assert kept is not None
        found.append((y, *cpu.mlp_backward(x, weights, kept, dy, True)[1]))
        cpu.set_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    exact, _ = cpu.mlp_forward(x, weights, False, "ieee")
    expected = weights[1].double() @ (weights[0].double() @ x.double()).relu()
    assert float((exact.double() - expected).abs().max()) < 1e-3
    assert float((found[0][0].double() - expected).abs().max()) > 1e-2
