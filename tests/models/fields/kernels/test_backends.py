"""Every backend against the definitions in truth.py: random shapes, borders, NaN, nothing at all."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.fields.kernels.levels import Level, level_table
from tests.models.fields.kernels import truth
from tests.models.fields.kernels.backends import Backend

TOLERANCE = 2e-4
MARGIN = 64
few = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # a launch in the interpreter takes long: no shrinking
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 2**31 - 1)
unit = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0.0, 1.0, width=32, allow_subnormal=False))


def assert_close(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Equal shapes, and equal values up to a share of the largest, of numbers about 1."""
    assert found.shape == expected.shape
    if expected.numel():
        error = (found.detach().cpu().double() - expected.detach()).abs().amax()
        assert error <= tolerance * max(float(expected.detach().abs().amax()), 1e-9), float(error)


def table_of(levels: tuple[Level, ...], features: int, random: torch.Generator) -> Tensor:
    entries = levels[-1].offset + levels[-1].size
    return torch.randn(entries, features, generator=random, dtype=torch.float64).float().double()


@st.composite
def encodings(draw: st.DrawFn) -> tuple[tuple[Level, ...], int, Tensor]:
    """Levels, features of an entry, and points."""
    base = draw(st.integers(1, 8))
    levels = level_table(draw(st.integers(1, 4)), base, base * draw(st.integers(1, 40)), draw(st.integers(4, 11)))
    points = draw(st.lists(st.tuples(unit, unit, unit), min_size=1, max_size=9))
    return levels, draw(st.sampled_from([1, 2, 4, 8])), torch.tensor(points, dtype=torch.float64)


@few
@given(encoding=encodings(), seed=seeds)
@example(
    encoding=(level_table(3, 4, 64, 8), 2, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.5]]).double()),
    seed=0,
)
@example(encoding=(level_table(2, 2, 5, 12), 4, torch.tensor([[0.3, 1.0, 0.0]]).double()), seed=1)
def test_encoding_and_its_gradients(
    backend: Backend, encoding: tuple[tuple[Level, ...], int, Tensor], seed: int
) -> None:
    levels, features, points = encoding
    random = torch.Generator().manual_seed(seed)
    x, table = points.requires_grad_(), table_of(levels, features, random).requires_grad_()
    expected = truth.encode(x, table, levels)
    slope = torch.randn(expected.shape, generator=random, dtype=torch.float64).float().double()
    expected.backward(slope)

    x_, table_, slope_ = backend.put(x.detach(), table.detach(), slope)
    assert_close(backend.module.encode_forward(x_, table_, levels), expected)

    padded = torch.zeros(table.numel() + 2 * MARGIN, device=backend.device)  # nothing beside the table may change
    d_table = padded[MARGIN : MARGIN + table.numel()].view(table.shape)
    d_table.fill_(1.0)
    touched = torch.zeros(-(-table.numel() // 16), dtype=torch.uint8, device=backend.device)
    d_x = backend.module.encode_backward(x_, table_, levels, slope_, d_table, touched, True)
    assert table.grad is not None and x.grad is not None
    assert_close(d_table - 1.0, table.grad)
    assert_close(d_x, x.grad, 1e-3)
    assert not padded[:MARGIN].any() and not padded[MARGIN + table.numel() :].any()

    around = torch.cat([entry for level in levels for _, entry, _ in truth.corner_entries(points, level)])
    allowed = set((around * features // 16).tolist())
    needed = set((table.grad.reshape(-1).nonzero()[:, 0] // 16).tolist())
    marked = set(touched.nonzero()[:, 0].tolist())
    assert needed <= marked <= allowed
    assert set(touched.unique().tolist()) <= {0, 1}


def test_encoding_by_what_is_asked_for(backend: Backend) -> None:
    levels = level_table(2, 2, 9, 6)
    random = torch.Generator().manual_seed(0)
    x, table = backend.put(torch.rand(5, 3, generator=random), table_of(levels, 2, random))
    slope = torch.ones(4, 5, device=backend.device)
    d_table, again = torch.zeros_like(table), torch.zeros_like(table)
    assert backend.module.encode_backward(x, table, levels, slope, d_table, None, False) is None
    backend.module.encode_backward(x, table, levels, slope, again, None, True)
    assert_close(d_table, again.cpu().double(), 1e-6)
    alone = backend.module.encode_backward(x, table, levels, slope, None, None, True)
    assert alone.shape == (5, 3)


def test_encoding_of_no_points(backend: Backend) -> None:
    levels = level_table(2, 2, 9, 6)
    (table,) = backend.put(table_of(levels, 2, torch.Generator().manual_seed(0)))
    x, slope = torch.empty(0, 3, device=backend.device), torch.empty(4, 0, device=backend.device)
    d_table = torch.zeros_like(table)
    assert backend.module.encode_forward(x, table, levels).shape == (4, 0)
    assert backend.module.encode_backward(x, table, levels, slope, d_table, None, True).shape == (0, 3)
    assert not d_table.any()


@pytest.mark.parametrize("log2_table", [6, 14], ids=["hashed", "dense"])
def test_positions_out_of_range_touch_nothing_else(backend: Backend, log2_table: int) -> None:
    levels = level_table(3, 3, 20, log2_table)
    random = torch.Generator().manual_seed(0)
    points = torch.rand(40, 3, generator=random).double()
    broken = torch.arange(0, 40, 7)
    sound = torch.tensor([i for i in range(40) if i % 7])
    bad = points.clone()
    for number, i in enumerate(broken.tolist()):
        bad[i, number // 2 % 3] = (torch.nan, -3.0, 1e9)[number % 3]
    table = table_of(levels, 2, random)
    slope = torch.ones(6, 40, dtype=torch.float64)
    x_, table_, slope_ = backend.put(bad, table, slope)
    expected = truth.encode(points, table, levels)
    assert_close(backend.module.encode_forward(x_, table_, levels)[:, sound], expected[:, sound])
    padded = torch.zeros(table.numel() + 2 * MARGIN, device=backend.device)
    d_table = padded[MARGIN : MARGIN + table.numel()].view(table.shape)
    d_x = backend.module.encode_backward(x_, table_, levels, slope_, d_table, None, True)
    assert torch.isfinite(d_x[sound]).all()
    assert not padded[:MARGIN].any() and not padded[MARGIN + table.numel() :].any()


@pytest.mark.parametrize(
    "widths",
    [(32, 64, 16), (32, 64, 64, 3), (5, 20, 1), (3, 7, 7, 2), (8, 96, 4), (4, 8, 16, 2), (6, 5), (4, 8, 8, 8, 2)],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 130, 300])
def test_network_and_its_gradients(backend: Backend, widths: tuple[int, ...], count: int) -> None:
    random = torch.Generator().manual_seed(count)
    weights = [torch.randn(b, a, generator=random).double() / a**0.5 for a, b in itertools.pairwise(widths)]
    x, slope = (torch.randn(width, count, generator=random).double() for width in (widths[0], widths[-1]))
    x.requires_grad_()
    for weight in weights:
        weight.requires_grad_()
    expected = truth.mlp(x, weights)
    expected.backward(slope)

    x_, slope_, *weights_ = backend.put(x.detach(), slope, *(weight.detach() for weight in weights))
    without, _ = backend.module.mlp_forward(x_, weights_, False, **backend.exact)
    y, saved = backend.module.mlp_forward(x_, weights_, True, **backend.exact)
    assert_close(without, expected)
    assert_close(y, expected)
    d_x, d_weights = backend.module.mlp_backward(x_, weights_, saved, slope_, True, **backend.exact)
    nothing, same = backend.module.mlp_backward(x_, weights_, saved, slope_, False, **backend.exact)
    assert nothing is None
    assert_close(d_x, x.grad)
    for found, again, weight in zip(d_weights, same, weights, strict=True):
        assert_close(found, weight.grad)
        assert_close(again, weight.grad)


@pytest.mark.parametrize("widths", [(32, 64, 16), (8, 96, 4)], ids=str)
def test_network_of_no_points(backend: Backend, widths: tuple[int, ...]) -> None:
    weights = [torch.ones(b, a, device=backend.device) for a, b in itertools.pairwise(widths)]
    x = torch.empty(widths[0], 0, device=backend.device)
    y, saved = backend.module.mlp_forward(x, weights, True, **backend.exact)
    assert y.shape == (widths[-1], 0)
    d_x, d_weights = backend.module.mlp_backward(x, weights, saved, y, True, **backend.exact)
    assert d_x.shape == x.shape
    assert [d.shape for d in d_weights] == [w.shape for w in weights]
    assert not any(d.any() for d in d_weights)


def _rays(random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Origins and directions [24, 3]: from within and outside, along an axis too, through the cubes and past."""
    o = 2.0 * torch.randn(24, 3, generator=random)
    d = torch.randn(24, 3, generator=random) - o
    o[0], d[0] = torch.tensor([0.26, 3.0, -0.3]), torch.tensor([0.0, -1.0, 0.0])
    o[1], d[1] = torch.tensor([2.0, 0.3, 0.3]), torch.tensor([-1.0, 0.0, 0.0])
    return o, torch.nn.functional.normalize(d, dim=1)


def _cells(cascades: int, side: int, share: float, random: torch.Generator) -> Tensor:
    """Cells occupied at random in blocks occupied at random."""
    cells = torch.rand(cascades, side, side, side, generator=random) < share
    blocks = torch.rand(cascades, *[side // 4] * 3, generator=random) < 0.5
    for axis in (1, 2, 3):
        blocks = blocks.repeat_interleave(4, axis)
    return (cells & blocks).to(torch.uint8)


def _blocks(cells: Tensor) -> Tensor:
    return torch.nn.functional.max_pool3d(cells.float()[None], 4)[0].to(torch.uint8)


@pytest.mark.parametrize(("cascades", "side"), [(0, 4), (1, 4), (1, 16), (2, 8), (2, 16), (3, 12), (3, 16)])
@settings(few, max_examples=2)
@given(share=st.sampled_from([0.1, 0.5]), step=st.sampled_from([0.09, 0.23]), seed=seeds)
def test_march(backend: Backend, side: int, cascades: int, share: float, step: float, seed: int) -> None:
    """Without cascades there is no grid: every sample counts."""
    random = torch.Generator().manual_seed(seed)
    o, d = _rays(random)
    t_in, t_out, jitter = (torch.rand(len(o), generator=random) * scale for scale in (0.5, 4.0, 1.0))
    cells = _cells(cascades, side, share, random) if cascades else None
    blocks = None if cells is None else _blocks(cells)
    t, counts = backend.module.march(*backend.put(o, d, t_in, t_out, jitter), step, *backend.put(cells, blocks))
    assert counts.dtype == torch.int64 and int(counts.sum()) == len(t)
    for r, own in enumerate(t.cpu().double().split(counts.tolist())):
        expected = truth.march(
            o[r].tolist(), d[r].tolist(), float(t_in[r]), float(t_out[r]), float(jitter[r]), step, cells
        )
        number = (own - float(t_in[r])) / step - float(jitter[r])
        k = [round(n) for n in number.tolist()]
        assert (number - torch.tensor(k, dtype=torch.float64)).abs().sum() <= 1e-4 * len(k)
        assert k == sorted(set(k))
        assert expected.must <= set(k) <= expected.may


@pytest.mark.parametrize("side", [4, 8, 16])
def test_march_finds_small_cascades_from_empty_large_ones(backend: Backend, side: int) -> None:
    """With 4 or 8 cells along an edge, an empty block of 4 cells reaches into the small cascade."""
    cells = torch.zeros(2, side, side, side, dtype=torch.uint8)
    cells[0] = 1
    o, d = torch.tensor([[1.9, 0.3, 0.3]]), torch.tensor([[-1.0, 0.0, 0.0]])
    rays = backend.put(o, d, torch.zeros(1), torch.full((1,), 3.8), torch.zeros(1))
    t, counts = backend.module.march(*rays, 0.1, *backend.put(cells, _blocks(cells)))
    assert_close(t, 0.9 + 0.1 * torch.arange(int(counts)).double(), 1e-5)
    assert counts.tolist() == [len(t)]
    assert abs(len(t) - 20) <= 1  # from x = 1 to -1, both of them on a border


def test_march_of_nothing(backend: Backend) -> None:
    """No rays, rays that miss, and rays that are not numbers."""
    none = torch.empty(0, 3, device=backend.device)
    empty = torch.empty(0, device=backend.device)
    t, counts = backend.module.march(none, none, empty, empty, empty, 0.1, None, None)
    assert t.shape == (0,) and counts.shape == (0,)
    o, d = torch.zeros(3, 3, device=backend.device), torch.ones(3, 3, device=backend.device)
    t_in = torch.tensor([1.0, torch.nan, 0.0], device=backend.device)
    t_out = torch.tensor([0.5, 2.0, torch.nan], device=backend.device)
    cells = torch.ones(2, 4, 4, 4, dtype=torch.uint8, device=backend.device)
    blocks = torch.ones(2, 1, 1, 1, dtype=torch.uint8, device=backend.device)
    t, counts = backend.module.march(o, d, t_in, t_out, t_out.new_zeros(3), 0.1, cells, blocks)
    assert t.shape == (0,) and counts.tolist() == [0, 0, 0]
    o[0] = torch.nan
    d[1] = torch.nan
    t_in, t_out = t_out.new_zeros(3), t_out.new_tensor([1.0, 1.0, 0.0])
    _, counts = backend.module.march(o, d, t_in, t_out, t_in, 0.1, cells, blocks)
    assert counts[2] == 0


samples = st.lists(st.integers(0, 40), min_size=1, max_size=7)


def _packed(counts: list[int], seed: int, strength: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Density, colour and distance of samples, and where each ray's begin."""
    random = torch.Generator().manual_seed(seed)
    total = sum(counts)
    density = strength * torch.rand(total, generator=random).double() ** 3
    rgb = torch.rand(3, total, generator=random).double()
    t = torch.cat([1.0 + torch.rand(n, generator=random).double().cumsum(0) for n in counts])
    offsets = torch.tensor([0, *itertools.accumulate(counts)])
    return density, rgb, t.float().double(), offsets


@few
@given(counts=samples, seed=seeds, strength=st.sampled_from([1e-3, 1.0, 30.0, 3000.0]), spread=st.booleans())
@example(counts=[0, 0], seed=0, strength=1.0, spread=True)
@example(counts=[1], seed=0, strength=1.0, spread=True)
def test_volume_rendering_and_its_gradients(
    backend: Backend, counts: list[int], seed: int, strength: float, spread: bool
) -> None:
    step = 0.05
    density, rgb, t, offsets = _packed(counts, seed, strength)
    density.requires_grad_()
    rgb.requires_grad_()
    expected = truth.composite(density, rgb, t, counts, step)
    random = torch.Generator().manual_seed(seed)
    slopes = [torch.randn(x.shape, generator=random).double() for x in expected]
    loss = sum((x * s).sum() for x, s in zip(expected[: 3 if spread else 2], slopes, strict=False))
    assert isinstance(loss, Tensor)
    loss.backward()

    density_, rgb_, t_, offsets_, *slopes_ = backend.put(density.detach(), rgb.detach(), t, offsets, *slopes)
    found = backend.module.composite_forward(density_, rgb_, t_, offsets_, step)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)
    if not spread:
        slopes_[2] = None
    d_density, d_rgb = backend.module.composite_backward(density_, rgb_, t_, offsets_, step, *slopes_)
    assert density.grad is not None and rgb.grad is not None
    assert_close(d_density, density.grad)
    assert_close(d_rgb, rgb.grad)


@few
@given(counts=samples, seed=seeds, threshold=st.sampled_from([1e-4, 1e-2, 0.5]))
@example(counts=[0, 0], seed=0, threshold=0.5)
def test_visible_counts(backend: Backend, counts: list[int], seed: int, threshold: float) -> None:
    density, _, _, offsets = _packed(counts, seed, 60.0)
    density_, offsets_ = backend.put(density, offsets)
    found = backend.module.visible_counts(density_, offsets_, 0.05, threshold)
    assert found.dtype == torch.int64
    least, most = (truth.visible(density, counts, 0.05, threshold * factor) for factor in (1 + 1e-5, 1 - 1e-5))
    assert all(a <= b <= c for a, b, c in zip(least, found.tolist(), most, strict=True))


@few
@given(blocks=st.integers(1, 130), seed=seeds, step=st.integers(1, 1000), sparse=st.booleans())
def test_adam(backend: Backend, blocks: int, seed: int, step: int, sparse: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    state = truth.Adam(*(torch.randn(16 * blocks, generator=random).double() for _ in range(3)))
    state = state._replace(moment2=state.moment2.abs())
    marks = torch.rand(blocks, generator=random) < 0.5 if sparse else torch.ones(blocks, dtype=torch.bool)
    marked = marks.repeat_interleave(16)
    gradient = torch.randn(16 * blocks, generator=random).double() * marked
    gradient[torch.rand(16 * blocks, generator=random) < 0.3] = 0.0
    expected = truth.adam(state, gradient, marked, 0.01, 0.9, 0.99, 1e-15, step)

    param, moment1, moment2, slope = (part.view(-1, 2) for part in backend.put(*state, gradient))
    touched = marks.to(torch.uint8).to(backend.device) if sparse else None
    backend.module.adam(param, moment1, moment2, slope, touched, 0.01, 0.9, 0.99, 1e-15, step)
    param, moment1, moment2 = (part.view(-1) for part in (param, moment1, moment2))
    for found, wanted, before in zip((param, moment1, moment2), expected, state, strict=True):
        assert_close(found, wanted, 1e-5)
        assert torch.equal(found.cpu()[~marked], before.float()[~marked])
    assert torch.equal(param.cpu()[gradient == 0], state.param.float()[gradient == 0])
    assert not slope.any()
    assert touched is None or not touched.any()


def test_adam_divides_by_the_scale_of_the_loss(backend: Backend) -> None:
    random = torch.Generator().manual_seed(0)
    results = []
    for scale in (1.0, 1024.0):
        param, moment1, moment2 = torch.zeros(3, 32, device=backend.device)
        gradient = scale * torch.randn(32, generator=random.manual_seed(1)).to(backend.device)
        backend.module.adam(param, moment1, moment2, gradient, None, 0.01, 0.9, 0.99, 1e-15, 1, scale=scale)
        results.append((param, moment1, moment2))
    for one, other in zip(*results, strict=True):
        assert_close(other, one.cpu().double(), 1e-6)
