"""The product's kernels in the trainer of `baselines/eager_trainer.py`: same networks, grid and rates.

What differs is how it is computed: marching, encoding, networks and compositing by `models.fields.kernels.ops`,
harmonics once a ray, no colour for samples that no light comes from, sparse Adam for the table, large steps in slices.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.baselines.eager import Spec, random_table
from bench.baselines.eager_model import GRID, LEARNING_RATE, LOG2_TABLE, MAX_RESOLUTION, STEP, Model, learning_rate
from models.fields.kernels import cpu, ops
from models.fields.kernels.levels import Level, entries, level_table
from models.fields.sh import spherical_harmonics

OPAQUE = 1e-4
"""Transmittance below which samples count for nothing, as in Instant-NGP."""
WORTHWHILE = 0.75
"""Samples that no light comes from are left out where less than this share is seen."""
AT_ONCE = 1 << 15
"""Samples whose activations are kept at once: a step of more is computed in slices, their gradients added up."""


def _slices(counts: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rays and their samples, at most AT_ONCE of these (or one ray) at a time."""
    ends = counts.cumsum(0)
    first_ray, first = 0, 0
    while first_ray < len(counts):
        stop = max(first_ray + 1, int(torch.searchsorted(ends, first + AT_ONCE, right=True)))
        yield slice(first_ray, stop), slice(first, int(ends[stop - 1]))
        first_ray, first = stop, int(ends[stop - 1])


def padded(table: Tensor, spec: Spec, levels: tuple[Level, ...]) -> Tensor:
    """A table of the eager definition laid out as the kernels' is: levels padded to other multiples."""
    found = torch.zeros(entries(levels), table.shape[1])
    for level, begin, end in zip(levels, spec.offsets, spec.offsets[1:], strict=False):
        found[level.offset : level.offset + min(end - begin, level.size)] = table[begin:end][: level.size]
    return found


class EngineModel(Model):
    """As Model, on the compiled kernels. Its clock counts what it marches over, as the eager one's does."""

    rays_at_once = 500

    def __init__(self) -> None:
        super().__init__("eager")
        cpu.set_threads(torch.get_num_threads())
        self.levels = level_table(16, 16, MAX_RESOLUTION, LOG2_TABLE)
        self.table = torch.nn.Parameter(padded(random_table(self.spec, scale=1e-4), self.spec, self.levels))
        self.sparse = ops.SparseAdam(self.table)
        self.optimiser = torch.optim.Adam(self.weights, lr=LEARNING_RATE, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.blocks = torch.ones(1, *[GRID // 4] * 3, dtype=torch.uint8)

    def features(self, x: Tensor) -> Tensor:
        return ops.mlp(ops.encode(x, self.table, self.levels, self.sparse.gradient), self.weights[:2])

    def look(self, o: Tensor, d: Tensor, jitter: Tensor, background: Tensor) -> tuple[Tensor, int] | None:
        t, counts = self._march(o, d, jitter)
        return (self._shade(o, d, t, counts, background), len(t)) if len(t) else None

    def _shade(self, o: Tensor, d: Tensor, t: Tensor, counts: Tensor, background: Tensor) -> Tensor:
        """Colours [R, 3] of rays whose samples are known."""
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        ray = torch.repeat_interleave(torch.arange(len(o)), counts, output_size=len(t))
        x = torch.addcmul(o.index_select(0, ray), t[:, None], d.index_select(0, ray)).clamp_(0, 1)
        h = self.features(x)
        density = h[:, 0].clamp(max=15).exp()
        seen = ops.visible_counts(density.detach(), offsets, STEP, OPAQUE)
        if int(seen.sum()) < WORTHWHILE * len(t):
            kept = (torch.arange(len(t)) < (offsets[:-1] + seen).index_select(0, ray)).nonzero()[:, 0]
            offsets = torch.cat([seen.new_zeros(1), seen.cumsum(0)])
            ray, t, density = (part.index_select(0, kept) for part in (ray, t, density))
            h = h.t().index_select(1, kept).t()
        basis = spherical_harmonics(d).t().index_select(1, ray).t()
        k = ops.mlp(torch.cat([h.t(), basis.t()]).t(), self.weights[2:])
        seen_rgb = ops.composite(density, torch.sigmoid(k), t, offsets, STEP)
        return seen_rgb.light + seen_rgb.through[:, None] * background

    def _march(self, o: Tensor, d: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [N] in the unit cube's units, and how many each ray has [R]. The kernels' cube is [-1, 1]^3."""
        inverse = 1 / torch.where(d.abs() < 1e-9, torch.full_like(d, 1e-9), d)
        a, b = -o * inverse, (1 - o) * inverse
        t0, t1 = torch.minimum(a, b).amax(1).clamp(min=0), torch.maximum(a, b).amin(1)
        cells = self.occupied.view(1, GRID, GRID, GRID)
        t, counts = ops.march(o * 2 - 1, d, t0 * 2, t1 * 2, jitter, STEP * 2, cells, self.blocks)
        return t * 0.5, counts

    def learn(self, o: Tensor, d: Tensor, target: Tensor, background: Tensor, jitter: Tensor, step: int) -> int | None:
        t, counts = self._march(o, d, jitter)
        if len(t) == 0:
            return None
        self.optimiser.zero_grad()
        for rays, samples in _slices(counts):
            parts = (o[rays], d[rays], t[samples], counts[rays], background[rays])
            loss = (self._shade(*parts) - target[rays]).square().sum() / target.numel()
            loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step)
        self.optimiser.step()
        self.sparse.step(learning_rate(step))
        return len(t)

    def refresh(self, step: int) -> None:
        super().refresh(step)
        cells = self.occupied.view(1, 1, GRID, GRID, GRID).float()
        self.blocks = torch.nn.functional.max_pool3d(cells, 4)[0].to(torch.uint8)
