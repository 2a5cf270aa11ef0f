"""The product's kernels in the trainer of `baselines/eager_trainer.py`: same networks, grid and rates.

What differs is how it is computed: marching, encoding, networks and compositing by `models.fields.kernels.ops`,
harmonics once a ray, no colour and no gradient for samples that no light comes from, sparse Adam for the table.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.baselines.eager import random_table
from bench.baselines.eager_trainer import GRID, LEARNING_RATE, LOG2_TABLE, MAX_RESOLUTION, STEP, Model, learning_rate
from models.fields.kernels import cpu, ops
from models.fields.kernels.levels import entries, level_table
from models.fields.sh import spherical_harmonics

OPAQUE = 1e-4
"""Transmittance below which samples count for nothing, as in Instant-NGP."""


class EngineModel(Model):
    """As Model, on the compiled kernels. Its clock counts what it marches over, as the eager one's does."""

    rays_at_once = 500

    def __init__(self) -> None:
        super().__init__("eager")
        cpu.set_threads(torch.get_num_threads())
        self.levels = level_table(16, 16, MAX_RESOLUTION, LOG2_TABLE)
        table = random_table(self.spec, scale=1e-4)
        padded = torch.zeros(entries(self.levels), 2)
        for level, begin, end in zip(self.levels, self.spec.offsets, self.spec.offsets[1:], strict=False):
            padded[level.offset : level.offset + min(end - begin, level.size)] = table[begin:end][: level.size]
        self.table = torch.nn.Parameter(padded)
        self.sparse = ops.SparseAdam(self.table)
        self.optimiser = torch.optim.Adam(self.weights, lr=LEARNING_RATE, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.blocks = torch.ones(1, *[GRID // 4] * 3, dtype=torch.uint8)

    def features(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        encoded = ops.encode(x, self.table, self.levels, self.sparse.gradient, known)
        return ops.mlp(encoded, self.weights[:2])

    def look(self, o: Tensor, d: Tensor, jitter: Tensor, background: Tensor) -> tuple[Tensor, int] | None:
        t, counts = self._march(o, d, jitter)
        if len(t) == 0:
            return None
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        ray = torch.repeat_interleave(torch.arange(len(o)), counts, output_size=len(t))
        x = torch.addcmul(o.index_select(0, ray), t[:, None], d.index_select(0, ray)).clamp_(0, 1)
        with torch.no_grad():
            encoded = ops.encode(x, self.table, self.levels)
            density = ops.mlp(encoded, self.weights[:2])[:, 0].clamp(max=15).exp()
            seen = ops.visible_counts(density, offsets, STEP, OPAQUE)
        marched = len(t)
        if int(seen.sum()) < marched:
            kept = (torch.arange(marched) < (offsets[:-1] + seen).index_select(0, ray)).nonzero()[:, 0]
            offsets = torch.cat([seen.new_zeros(1), seen.cumsum(0)])
            ray, t, x = (part.index_select(0, kept) for part in (ray, t, x))
            encoded = encoded.t().index_select(1, kept).t()
        h = self.features(x, encoded)
        basis = spherical_harmonics(d).t().index_select(1, ray).t()
        k = ops.mlp(torch.cat([h.t(), basis.t()]).t(), self.weights[2:])
        density = h[:, 0].clamp(max=15).exp()
        rgb = ops.composite(density, torch.sigmoid(k), t, offsets, STEP)
        return rgb.light + rgb.through[:, None] * background, marched

    def _march(self, o: Tensor, d: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [N] in the unit cube's units, and how many each ray has [R]. The kernels' cube is [-1, 1]^3."""
        inverse = 1 / torch.where(d.abs() < 1e-9, torch.full_like(d, 1e-9), d)
        a, b = -o * inverse, (1 - o) * inverse
        t0, t1 = torch.minimum(a, b).amax(1).clamp(min=0), torch.maximum(a, b).amin(1)
        cells = self.occupied.view(1, GRID, GRID, GRID)
        t, counts = ops.march(o * 2 - 1, d, t0 * 2, t1 * 2, jitter, STEP * 2, cells, self.blocks)
        return t * 0.5, counts

    def learn(self, o: Tensor, d: Tensor, target: Tensor, background: Tensor, jitter: Tensor, step: int) -> int | None:
        samples = super().learn(o, d, target, background, jitter, step)
        if samples is not None:
            self.sparse.step(learning_rate(step))
        return samples

    def refresh(self, step: int) -> None:
        super().refresh(step)
        cells = self.occupied.view(1, 1, GRID, GRID, GRID).float()
        self.blocks = torch.nn.functional.max_pool3d(cells, 4)[0].to(torch.uint8)


def useful_flops(points: int) -> float:
    """Forward and backward of the two networks: 9408 weights, six operations each."""
    return points * 6.0 * math.fsum(o * i for o, i in ((64, 32), (16, 64), (64, 32), (64, 64), (3, 64)))
