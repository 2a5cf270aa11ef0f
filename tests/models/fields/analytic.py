"""Fields with known shapes, for the tests of whatever consumes a `Field`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.fields.base import Field


def rainbow(x: Tensor) -> Tensor:
    """[N, 3] smooth colours by position [N, 3], in [0.1, 0.9]."""
    return 0.5 + 0.4 * torch.sin(4.0 * x + torch.tensor([0.0, 1.0, 2.0], dtype=x.dtype, device=x.device))


class SphereField(Field):
    """A ball: a signed distance, or a density that falls through `level` at `radius` over about `width` units."""

    method = "analytic_sphere"

    def __init__(
        self, radius: float = 0.5, centre: tuple[float, float, float] = (0.0, 0.0, 0.0), quantity: str = "density"
    ) -> None:
        super().__init__()
        self.quantity = "density" if quantity == "density" else "sdf"
        self.radius, self.centre, self.level = radius, tuple(centre), 50.0 if quantity == "density" else 0.0
        self.width = 0.01

    def config(self) -> dict[str, Any]:
        return {"radius": self.radius, "centre": list(self.centre), "quantity": self.quantity}

    def distance(self, x: Tensor) -> Tensor:
        """[N] signed distance of points [N, 3]."""
        return (x - torch.tensor(self.centre, dtype=x.dtype, device=x.device)).norm(dim=-1) - self.radius

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value = self.distance(x)
        if self.quantity == "density":
            value = 2.0 * self.level * torch.sigmoid(-value / self.width * 4.0)
        return value, rainbow(x)

    def color(self, x: Tensor, d: Tensor, feature: Tensor) -> Tensor:
        return feature


class TorusField(SphereField):
    """A torus around z: `radius` of the ring, `tube` of its cross-section."""

    method = "analytic_torus"

    def __init__(self, radius: float = 0.5, tube: float = 0.2, quantity: str = "density") -> None:
        super().__init__(radius, quantity=quantity)
        self.tube = tube

    def config(self) -> dict[str, Any]:
        return {"radius": self.radius, "tube": self.tube, "quantity": self.quantity}

    def distance(self, x: Tensor) -> Tensor:
        ring = x[:, :2].norm(dim=-1) - self.radius
        return torch.stack([ring, x[:, 2]], -1).norm(dim=-1) - self.tube
