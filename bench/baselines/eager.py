"""The hash encoding in eager torch: as a straightforward port is written, and tuned within eager torch's means.

Do not speed these up or slow them down: every ratio that is published is against them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

P2, P3 = 2654435761, 805459861
CORNERS = [[c & 1, (c >> 1) & 1, c >> 2] for c in range(8)]


class Spec:
    """The levels: two features, a ragged table (dense levels keep (res + 1)^3 entries padded to 8, hashed ones T).

    Args:
        log2_table: of T, the entries of a hashed level.
        levels, base_resolution, max_resolution: of the geometric series of resolutions.
    """

    def __init__(
        self, log2_table: int = 19, levels: int = 16, base_resolution: int = 16, max_resolution: int = 2048
    ) -> None:
        self.levels, self.table_size = levels, 1 << log2_table
        growth = math.exp((math.log(max_resolution) - math.log(base_resolution)) / (levels - 1))
        self.resolutions = [math.floor(base_resolution * growth**level + 1e-6) for level in range(levels)]
        self.dense = [(r + 1) ** 3 <= self.table_size for r in self.resolutions]
        sizes = [
            ((r + 1) ** 3 + 7) // 8 * 8 if dense else self.table_size
            for r, dense in zip(self.resolutions, self.dense, strict=True)
        ]
        self.offsets = [0]
        for size in sizes:
            self.offsets.append(self.offsets[-1] + size)
        self.total = self.offsets[-1]


def random_table(spec: Spec, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 0.1) -> Tensor:
    """[spec.total, 2] uniform in [-scale, scale]."""
    generator = torch.Generator().manual_seed(seed)
    return ((torch.rand(spec.total, 2, generator=generator) - 0.5) * 2 * scale).to(dtype)


def random_points(count: int, kind: str = "random", seed: int = 0) -> Tensor:
    """[count, 3] points in [0, 1].

    Args:
        kind: `random`; `morton` (random in Morton order); `rays` (64 consecutive samples of random rays each in a
            short interval about a surface); `pixel_rays` (the same of neighbouring pixels).
    """
    generator = torch.Generator().manual_seed(seed)
    if kind == "random":
        return torch.rand(count, 3, generator=generator)
    if kind == "morton":
        x = torch.rand(count, 3, generator=generator)
        q = (x * 1024).long()
        code = _spread(q[:, 0]) | (_spread(q[:, 1]) << 1) | (_spread(q[:, 2]) << 2)
        return x[torch.argsort(code)].contiguous()
    if kind not in ("rays", "pixel_rays"):
        raise ValueError(f"expected random, morton, rays or pixel_rays, found '{kind}'")
    samples = 64
    rays = count // samples
    if kind == "rays":
        origin = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=1) * 1.2 + 0.5
        target = torch.rand(rays, 3, generator=generator) * 0.6 + 0.2
    else:
        edge = int(rays**0.5)
        rays = edge * edge
        origin = torch.tensor([[0.5, 0.5, -1.0]]).expand(rays, 3)
        axes = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
        u = torch.stack(axes, -1).reshape(-1, 2) / edge * 0.6 + 0.2
        target = torch.cat([u, torch.full((rays, 1), 0.5)], 1)
    direction = torch.nn.functional.normalize(target - origin, dim=1)
    middle = (target - origin).norm(dim=1, keepdim=True)
    t = middle + (torch.arange(samples) - samples / 2)[None] * (1.732 / 1024)
    x = (origin[:, None] + t[..., None] * direction[:, None]).clamp(0, 1).reshape(-1, 3)
    if x.shape[0] < count:
        x = torch.cat([x, x[: count - x.shape[0]]])
    return x.contiguous()


def _spread(v: Tensor) -> Tensor:
    """Ten bits with two zeros between each."""
    v = (v | (v << 16)) & 0x030000FF
    v = (v | (v << 8)) & 0x0300F00F
    v = (v | (v << 4)) & 0x030C30C3
    return (v | (v << 2)) & 0x09249249


def naive_encode(x: Tensor, table: Tensor, spec: Spec) -> Tensor:
    """[N, 2 levels] features of points [N, 3] in [0, 1], as a straightforward port computes them.

    One [N, levels, 8] index tensor, fancy indexing, autograd. Any dtype.
    """
    device = x.device
    res = torch.tensor(spec.resolutions, dtype=x.dtype, device=device)
    p = x[:, None, :] * res[None, :, None]
    i0 = torch.minimum(p.detach().floor(), res[None, :, None] - 1)
    f = p - i0
    i0 = i0.long()
    c = torch.tensor(CORNERS, device=device)
    ic = i0[:, :, None, :] + c  # [N, levels, 8, 3]
    offset = torch.tensor(spec.offsets[:-1], device=device)[None, :, None]
    side = torch.tensor([r + 1 for r in spec.resolutions], device=device)[None, :, None]
    hashed = (ic[..., 0] ^ (ic[..., 1] * P2) ^ (ic[..., 2] * P3)) & (spec.table_size - 1)
    dense = ic[..., 0] + ic[..., 1] * side + ic[..., 2] * side * side
    index = torch.where(torch.tensor(spec.dense, device=device)[None, :, None], dense, hashed) + offset
    w = torch.where(c.bool(), f[:, :, None, :], 1 - f[:, :, None, :]).prod(-1)
    return (table[index] * w[..., None]).sum(2).reshape(x.shape[0], -1)


def better_eager_encode(x: Tensor, table: Tensor, spec: Spec) -> Tensor:
    """As `naive_encode`, level by level in int32 with embedding_bag and per-sample weights."""
    out = []
    for level in range(spec.levels):
        r = spec.resolutions[level]
        p = x * float(r)
        i0 = p.floor().clamp_(max=r - 1)
        f = p - i0
        i = i0.int()
        xs = i[:, 0], i[:, 0] + 1
        if spec.dense[level]:
            ys = i[:, 1] * (r + 1), (i[:, 1] + 1) * (r + 1)
            zs = i[:, 2] * (r + 1) ** 2, (i[:, 2] + 1) * (r + 1) ** 2
            index = torch.stack([xs[a] + ys[b] + zs[c] for a, b, c in CORNERS], 1)
        else:
            k2, k3 = P2 - (1 << 32), P3
            ys = i[:, 1] * k2, (i[:, 1] + 1) * k2
            zs = i[:, 2] * k3, (i[:, 2] + 1) * k3
            index = torch.stack([(xs[a] ^ ys[b] ^ zs[c]) & (spec.table_size - 1) for a, b, c in CORNERS], 1)
        g = 1 - f
        sides = [(g[:, k], f[:, k]) for k in range(3)]
        w = torch.stack([sides[0][a] * sides[1][b] * sides[2][c] for a, b, c in CORNERS], 1)
        own = table[spec.offsets[level] : spec.offsets[level + 1]]
        out.append(torch.nn.functional.embedding_bag(index, own, mode="sum", per_sample_weights=w))
    return torch.cat(out, 1)
