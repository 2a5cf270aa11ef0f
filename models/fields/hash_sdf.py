"""A signed distance field and its colours from a hash encoding, rendered as NeuS does (Wang et al. 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from models.fields.hash_field import HashField
from models.fields.kernels import ops
from models.fields.march import Samples

TAPS = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))
"""Corners of a tetrahedron: the four places around a point whose values give its slope."""
GAP = 1.5
"""Samples of a ray further apart than that many steps are not neighbours."""


class HashSDFField(HashField):
    """Distance |x| - radius + MLP(encoding): a sphere before training. Colours as HashField's.

    The levels of the encoding are switched on from coarse to fine (Neuralangelo, Li et al. 2023): `active` of them are
    computed, the rest count as zero. Slopes are differences of values over `tap` (the same paper, section 3.2).

    Args:
        radius: of the initial sphere in field units.
        rest: as HashField's.
    """

    method = "hash_sdf"
    version = "2"
    quantity = "sdf"
    sharpness: Tensor
    """[] steepness of the logistic function of the distance that the transmittance follows, in 1 / field unit."""

    def __init__(self, radius: float = 0.6, **rest: Any) -> None:
        super().__init__(**rest)
        self._config = {"radius": radius, **rest}
        self.level, self.radius = 0.0, radius
        self.register_buffer("sharpness", torch.tensor(20.0))
        self.active = len(self.encoding.levels)

    def reset(self, generator: torch.Generator) -> None:
        super().reset(generator)
        with torch.no_grad():
            self.value_net.weights[-1][0].mul_(0.1)

    @property
    def tap(self) -> float:
        """Edge of a cell of the finest active level in field units: over less than that values tell nothing new."""
        return 2.0 * self.extent / self.encoding.levels[self.active - 1].resolution

    def encode(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        unit = (x + self.extent) * (0.5 / self.extent)
        encoding = self.encoding
        levels = encoding.levels[: self.active]
        return ops.encode(unit, encoding.table, levels, encoding.gradient, known, encoding.rounded)

    def decode(self, x: Tensor, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Distance [N] and feature [N, F] of points [N, 3] whose encoding [N, E] is known."""
        first, *others = self.value_net.weights
        out = ops.mlp(encoded, [first[:, : encoded.shape[1]].contiguous(), *others])
        return x.norm(dim=1) - self.radius + out[:, 0], out

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.decode(x, self.encode(x))

    def slope(self, x: Tensor, tap: float | None = None) -> tuple[Tensor, Tensor]:
        """Differences of values around points [N, 3]: the slope [N, 3], and the mean [N] of the four values."""
        tap = self.tap if tap is None else tap
        corners = torch.tensor(TAPS, dtype=x.dtype, device=x.device)
        places = (x[None] + tap * corners[:, None]).view(-1, 3).clamp(-self.extent, self.extent)
        value = self.query(places)[0].view(4, -1)
        return value.t() @ corners / (4.0 * tap), value.mean(0)

    @torch.no_grad()
    def gradient(self, x: Tensor) -> Tensor:
        return self.slope(x)[0]

    def density_along(self, value: Tensor, samples: Samples) -> Tensor:
        """As Field.density_along. The transmittance falls as the logistic function of the distance does (NeuS, eq. 10
        to 13), between the middles to the neighbours, so that a sample's colour counts where it was taken."""
        ray, t = samples.ray, samples.t
        if len(t) < 2:
            return torch.zeros_like(value)
        joined = (ray[1:] == ray[:-1]) & (t[1:] - t[:-1] < GAP * self.step)
        half = 0.5 * (value[1:] - value[:-1])
        none = half.new_zeros(1)
        ahead, back = torch.cat([half, none]), torch.cat([none, half])
        before, after = torch.nn.functional.pad(joined, (1, 0)), torch.nn.functional.pad(joined, (0, 1))
        rise = torch.where(after, ahead, torch.where(before, back, torch.zeros_like(back)))
        fall = torch.where(before, back, rise)
        s = self.sharpness
        return (logsigmoid(s * (value - fall)) - logsigmoid(s * (value + rise))).clamp(min=0.0) / self.step
