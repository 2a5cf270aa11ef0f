"""The model of the eager trainer: table, networks, occupancy grid and optimiser in plain torch, and its constants."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from bench.baselines.analytic import Rays
from bench.baselines.eager import Spec, better_eager_encode, naive_encode, random_table

Mode = Literal["eager", "eager_tuned", "engine"]
LOG2_TABLE, MAX_RESOLUTION = 15, 1024
GRID = 64
STEP = math.sqrt(3) / 512
TARGET_SAMPLES = 1 << 13
LEARNING_RATE = 1e-2
REFRESH_EVERY, WARM_STEPS, REFRESH_SHARE = 16, 256, 8
NETWORK = [(64, 32), (16, 64), (64, 32), (64, 64), (3, 64)]
"""[out, in] of the density network's two layers and the colour network's three."""


def harmonics(d: Tensor) -> Tensor:
    """[N, 16] spherical harmonics of unit directions [N, 3]."""
    x, y, z = d.unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    o = torch.ones_like(x)
    return torch.stack(
        [
            0.28209479 * o,
            -0.48860251 * y,
            0.48860251 * z,
            -0.48860251 * x,
            1.09254843 * x * y,
            -1.09254843 * y * z,
            0.9461747 * zz - 0.31539157,
            -1.09254843 * x * z,
            0.54627422 * (xx - yy),
            0.59004359 * y * (-3 * xx + yy),
            2.89061144 * x * y * z,
            0.4570458 * y * (1 - 5 * zz),
            0.37317633 * z * (5 * zz - 3),
            0.4570458 * x * (1 - 5 * zz),
            1.44530572 * z * (xx - yy),
            0.59004359 * x * (-xx + 3 * yy),
        ],
        1,
    )


def learning_rate(step: int) -> float:
    """Of a step: 50 steps of warm-up, a third after 3000."""
    return LEARNING_RATE * (0.33 if step > 3000 else 1) * min(1, (step + 1) / 50)


class Model:
    """Table, networks, occupancy grid and optimiser."""

    rays_at_once = 2000
    """Of an evaluation."""

    def __init__(self, mode: Mode) -> None:
        self.spec = Spec(LOG2_TABLE, max_resolution=MAX_RESOLUTION)
        self.encode = naive_encode if mode == "eager" else better_eager_encode
        generator = torch.Generator().manual_seed(1)
        flat = torch.cat([(torch.rand(o * i, generator=generator) * 2 - 1) * math.sqrt(6 / i) for o, i in NETWORK])
        parts = torch.split(flat, [o * i for o, i in NETWORK])
        self.table = torch.nn.Parameter(random_table(self.spec, scale=1e-4))
        self.weights = [torch.nn.Parameter(w.view(s)) for w, s in zip(parts, NETWORK, strict=True)]
        self.optimiser = torch.optim.Adam([self.table, *self.weights], lr=LEARNING_RATE, betas=(0.9, 0.99), eps=1e-15)
        self.occupied = torch.ones(GRID**3, dtype=torch.uint8)
        self.remembered = torch.zeros(GRID**3)

    @property
    def pruned(self) -> bool:
        """Whether so few cells are occupied that an evaluation is affordable."""
        return bool(self.occupied.float().mean() < 0.15)

    def features(self, x: Tensor) -> Tensor:
        """[N, 16] of points [N, 3]; the first is the density's logarithm."""
        return torch.relu(self.encode(x, self.table, self.spec) @ self.weights[0].T) @ self.weights[1].T

    def radiance(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithm of the density [N] and colour before the sigmoid [N, 3]."""
        h = self.features(x)
        k = torch.relu(torch.cat([h, harmonics(d)], 1) @ self.weights[2].T)
        k = torch.relu(k @ self.weights[3].T) @ self.weights[4].T
        return h[:, 0], k

    def density(self, x: Tensor) -> Tensor:
        """[N] without gradients."""
        with torch.no_grad():
            return self.features(x)[:, 0].clamp(max=15).exp()

    def march(self, o: Tensor, d: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        """Samples in occupied cells: points [N, 3] and the rays [N] they belong to."""
        inverse = 1 / torch.where(d.abs() < 1e-9, torch.full_like(d, 1e-9), d)
        a, b = -o * inverse, (1 - o) * inverse
        t0, t1 = torch.minimum(a, b).amax(1).clamp(min=0), torch.maximum(a, b).amin(1)
        t = t0[:, None] + STEP * (torch.arange(int(1.7321 / STEP) + 1)[None] + jitter[:, None])
        m = t < t1[:, None]
        r, k = m.nonzero(as_tuple=True)
        x = (o[r] + t[r, k][:, None] * d[r]).clamp(0, 1)
        cell = (x * GRID).long().clamp(max=GRID - 1)
        keep = self.occupied[(cell[:, 2] * GRID + cell[:, 1]) * GRID + cell[:, 0]] > 0
        return x[keep], r[keep]

    def look(self, o: Tensor, d: Tensor, jitter: Tensor, background: Tensor) -> tuple[Tensor, int] | None:
        """Colours [R, 3] of rays [R, 3] and the number of samples; None where there are none."""
        rays = o.shape[0]
        x, r = self.march(o, d, jitter)
        if len(r) == 0:
            return None
        s, k = self.radiance(x, d[r])
        tau = s.clamp(max=15).exp() * STEP
        total = torch.cumsum(tau.double(), 0)
        count = torch.bincount(r, minlength=rays)
        first = count.cumsum(0) - count
        base = torch.cat([total.new_zeros(1), total])[first]
        transmittance = torch.exp(-(total - tau - base[r])).float()
        w = transmittance * (1 - torch.exp(-tau))
        rgb = torch.zeros(rays, 3).index_add(0, r, w[:, None] * torch.sigmoid(k))
        alpha = torch.zeros(rays).index_add(0, r, w)
        return rgb + (1 - alpha)[:, None] * background, len(r)

    def learn(self, o: Tensor, d: Tensor, target: Tensor, background: Tensor, jitter: Tensor, step: int) -> int | None:
        """One step of Adam; the number of samples, None where there were none."""
        seen = self.look(o, d, jitter, background)
        if seen is None:
            return None
        loss = ((seen[0] - target) ** 2).mean()
        self.optimiser.zero_grad(set_to_none=True)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        loss.item()
        return seen[1]

    def refresh(self, step: int) -> None:
        """Look at an eighth of the cells (later: random ones and occupied ones), and decide what is occupied."""
        if step < WARM_STEPS:
            cells = torch.arange(GRID**3)[int(torch.randint(REFRESH_SHARE, (1,)).item()) :: REFRESH_SHARE]
        else:
            full = self.occupied.nonzero()[:, 0]
            count = GRID**3 // 8
            anywhere = torch.randint(GRID**3, (count,))
            cells = torch.cat([anywhere, full[torch.randint(max(1, int(self.occupied.sum())), (count,))]])
        low = torch.stack([cells % GRID, (cells // GRID) % GRID, cells // (GRID * GRID)], 1)
        x = (low + torch.rand(len(cells), 3)) / GRID
        found = torch.cat([self.density(part.contiguous()).clone() for part in torch.split(x, 1 << 17)])
        self.remembered *= 0.95
        self.remembered.scatter_reduce_(0, cells, found, "amax")
        threshold = min(0.01 / STEP, self.remembered.mean().item())
        self.occupied = (self.remembered > threshold).to(torch.uint8)

    def psnr(self, test: Rays) -> float:
        """dB of pixels before white."""
        error, count = 0.0, 0
        with torch.no_grad():
            for i in range(0, test.origins.shape[0], self.rays_at_once):
                o, d, rgb, alpha = (part[i : i + self.rays_at_once].contiguous() for part in test)
                seen = self.look(o, d, torch.full((len(o),), 0.5), torch.ones(3))
                truth = rgb + (1 - alpha)[:, None]
                picture = seen[0] if seen else torch.ones_like(truth)
                error += ((picture - truth) ** 2).sum().item()
                count += truth.numel()
        return -10 * math.log10(error / count)
