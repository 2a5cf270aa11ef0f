"""The radiance field: density and view-dependent colour from a hash encoding (Instant-NGP, Mueller et al. 2022)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from models.fields.hash_field import HashField

LEVEL = 20.0
"""Density at the surface in 1 / field unit."""
MAX_LOG_DENSITY = 12.0
INITIAL_LOG_DENSITY = -1.0
"""Bias of the density's exponent: an untrained field is thin."""


class HashDensityField(HashField):
    """Density exp(MLP(encoding)). Arguments as HashField's."""

    method = "hash_density"
    version = "3"
    quantity: Literal["density", "sdf"] = "density"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.level = LEVEL

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.query_encoded(self.encode(x))

    def query_encoded(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """As `query`, of points whose encoding [N, E] is known."""
        feature = self.value_net(encoded)
        return torch.exp(feature[:, 0].clamp(max=MAX_LOG_DENSITY) + INITIAL_LOG_DENSITY), feature
