"""The level is the one whose surface lies where the rendered field shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.camera import matrix4
from tasks.sample.scenes import fibonacci_cameras
from tasks.surface.level import FACTORS, rank_levels
from tasks.surface.views import View
from tests.models.fields.analytic import SphereField, rainbow

WORLD = matrix4(np.diag([0.3, 0.3, 0.3, 1.0]))


class SoftBall(SphereField):
    """A ball of radius 0.5 whose density rises to `peak` over `width`; the field's level is 10."""

    method = "analytic_soft"

    def __init__(self, peak: float, width: float) -> None:
        super().__init__(0.5)
        self.level, self.peak, self.width = 10.0, peak, width

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.peak * torch.sigmoid(-self.distance(x) / self.width), rainbow(x)


def views() -> list[View]:
    return [View(image, Path) for image in fibonacci_cameras(8, 64, 64, distance=1.0)]


def test_a_hard_surface_keeps_the_level() -> None:
    ranked = rank_levels(SoftBall(peak=400.0, width=0.005), views(), WORLD)
    assert sorted(ranked) == sorted(FACTORS)
    assert ranked[0] in (1.0, 0.5, 2.0)


def test_a_soft_surface_gets_a_lower_one() -> None:
    """The level of hard surfaces lies nowhere in this ball, although its picture shows one."""
    ranked = rank_levels(SoftBall(peak=9.0, width=0.02), views(), WORLD)
    assert ranked[0] in (0.5, 0.2)
    assert set(ranked[-2:]) == {1.0, 2.0}


def test_fog_does_not_pull_the_level_down() -> None:
    """A thin haze in the whole cube, which pictures hardly show, is not a surface."""

    class Hazy(SoftBall):
        method = "analytic_hazy"

        def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
            value, feature = super().query(x)
            return value + 0.02, feature

    assert rank_levels(Hazy(peak=400.0, width=0.005), views(), WORLD)[0] >= 0.2
