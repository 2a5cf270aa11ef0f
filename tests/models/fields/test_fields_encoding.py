"""The hash encoding against its definition, its gradients against differences."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.fields.hash_encoding import HashEncoding
from models.fields.kernels import reference
from models.fields.kernels.levels import Level, entries, level_table
from models.fields.kernels.ops import SparseAdam, encode, reference_backend
from models.fields.sh import spherical_harmonics

PRIMES = (1, 2654435761, 805459861)


def naive(x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """The definition, point by point, level by level, corner by corner, in Python integers."""
    rows = []
    for point in x.tolist():
        row: list[Tensor] = []
        for level in levels:
            scaled = [c * level.resolution for c in point]
            cell = [min(int(c), level.resolution - 1) for c in scaled]
            total = torch.zeros(2, dtype=table.dtype)
            for corner in itertools.product((0, 1), repeat=3):
                lattice = [c + k for c, k in zip(cell, corner, strict=True)]
                if level.dense:
                    side = level.resolution + 1
                    index = lattice[0] + side * (lattice[1] + side * lattice[2])
                else:
                    index = 0
                    for c, prime in zip(lattice, PRIMES, strict=True):
                        index ^= (c * prime) & 0xFFFFFFFF
                    index &= level.size - 1
                weight = 1.0
                for s, c, k in zip(scaled, cell, corner, strict=True):
                    weight *= (s - c) if k else 1.0 - (s - c)
                total = total + weight * table[level.offset + index]
            row.append(total)
        rows.append(torch.cat(row))
    return torch.stack(rows)


unit = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0.0, 1.0, allow_subnormal=False))


@settings(max_examples=40, deadline=None)
@given(
    levels=st.integers(1, 5),
    base=st.integers(2, 12),
    factor=st.integers(1, 40),
    log2_table=st.integers(4, 11),
    points=st.lists(st.tuples(unit, unit, unit), min_size=1, max_size=6),
)
@example(levels=3, base=4, factor=16, log2_table=8, points=[(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.5)])
def test_encoding_is_its_definition(
    levels: int, base: int, factor: int, log2_table: int, points: list[tuple[float, float, float]]
) -> None:
    table_levels = level_table(levels, base, base * factor, log2_table)
    table = torch.randn(entries(table_levels), 2, dtype=torch.float64)
    x = torch.tensor(points, dtype=torch.float64)
    assert torch.allclose(encode(x, table, table_levels), naive(x, table, table_levels), atol=1e-9)


def test_gradients_by_table_and_position() -> None:
    levels = level_table(3, 3, 20, 7)
    assert [level.dense for level in levels] == [True, False, False]
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(entries(levels), 2, dtype=torch.float64, generator=generator)
    x = torch.rand(5, 3, dtype=torch.float64, generator=generator) * 0.9 + 0.03
    assert torch.autograd.gradcheck(
        lambda p, t: encode(p, t, levels), (x.requires_grad_(), table.requires_grad_()), fast_mode=False
    )


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = level_table(4, 4, 64, 9)
    table = torch.randn(entries(levels), 2, requires_grad=True)
    x = torch.rand(100, 3, requires_grad=True)
    with reference_backend():
        whole = encode(x, table, levels)
        by_whole = torch.autograd.grad(whole.sin().sum(), (x, table))
        monkeypatch.setattr(reference, "CHUNK", 17)
        parts = encode(x, table, levels)
        by_parts = torch.autograd.grad(parts.sin().sum(), (x, table))
    assert torch.allclose(whole, parts, atol=1e-5)
    for a, b in zip(by_whole, by_parts, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_no_points_have_no_features() -> None:
    levels = level_table(3, 4, 16, 8)
    assert reference.encode(torch.zeros(0, 3), torch.zeros(entries(levels), 2), levels).shape == (0, 6)


def test_equal_calls_give_equal_bits() -> None:
    encoding = HashEncoding(6, 8, 128, 10)
    encoding.reset(torch.Generator().manual_seed(0), scale=1.0)
    x = torch.rand(5000, 3)
    grads = [torch.autograd.grad(encoding(x).square().sum(), encoding.table)[0] for _ in range(2)]
    assert torch.equal(*grads)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_rounded_copy_is_what_is_read_and_the_table_what_is_trained(kind: torch.dtype) -> None:
    encoding = HashEncoding(4, 8, 64, 10)
    encoding.reset(torch.Generator().manual_seed(0), scale=1.0)
    encoding.read_as(kind)
    assert encoding.rounded is not None
    optimiser = SparseAdam(encoding.table, rounded=encoding.rounded)
    encoding.gradient = optimiser.gradient
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for _ in range(3):
        own = encoding.rounded.float().requires_grad_()
        expected = encode(x, own, encoding.levels)
        found = encoding(x)
        assert torch.allclose(found, expected, atol=1e-6)
        assert not torch.allclose(found, encode(x, encoding.table, encoding.levels), atol=1e-6)
        wanted = torch.autograd.grad(expected.sin().sum(), (x, own))
        (slope,) = torch.autograd.grad(found.sin().sum(), x, retain_graph=True)
        assert torch.allclose(slope, wanted[0], atol=1e-3)
        optimiser.forget()
        found.sin().sum().backward()
        assert encoding.table.grad is None and torch.allclose(optimiser.gradient.values, wanted[1], atol=1e-5)
        before = encoding.table.detach().clone()
        optimiser.step(1e-5)  # less than the copy can tell apart: it is the table that remembers
        assert float((encoding.table.detach() - before).abs().max()) == pytest.approx(1e-5, rel=0.1)
        assert torch.equal(encoding.rounded, encoding.table.detach().to(kind))
    encoding.table.data.mul_(2.0)
    encoding.round()
    assert torch.equal(encoding.rounded, encoding.table.detach().to(kind))
    encoding.read_as(None)
    assert torch.equal(encoding(x), encode(x, encoding.table, encoding.levels))


def test_level_sizes() -> None:
    levels = level_table(16, 16, 2048, 19)
    assert [level.resolution for level in levels][:: len(levels) - 1] == [16, 2048]
    assert sum(level.dense for level in levels) == 5
    assert all(level.size % 16 == 0 for level in levels)


def test_harmonics_are_orthonormal() -> None:
    d = torch.nn.functional.normalize(
        torch.randn(400_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    basis = spherical_harmonics(d)
    gram = basis.T @ basis * (4.0 * torch.pi / len(d))
    assert torch.allclose(gram, torch.eye(16, dtype=torch.float64), atol=0.02)
