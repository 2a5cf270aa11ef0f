"""Flatness where photos are of one colour: pixels that are plain, and what second differences say of known shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.camera import Camera
from tasks.sample.scenes import look_at
from tasks.train import flatness
from tasks.train.flatness import bending, plain_pixels
from tasks.train.pixel_bank import PixelBank


def test_plain_is_what_has_no_texture_around() -> None:
    width, height = 40, 24
    camera = Camera(width=width, height=height, fx=50.0, fy=50.0, cx=20.0, cy=12.0)
    half = np.full((height, width, 3), 90, np.uint8)
    half[:, 20:] = np.random.default_rng(0).integers(0, 255, (height, 20, 1))
    whole = np.full((height, width, 3), 30, np.uint8)
    poses = np.stack([look_at(np.array([0.0, 0.0, 3.0]))] * 2)
    plain = plain_pixels(PixelBank([camera, camera], poses, [half, whole], [None, None], "cpu")).view(2, height, width)
    assert bool(plain[1].all())
    assert bool(plain[0, :, :17].all()) and not bool(plain[0, :, 17:].any())


def around(count: int = 4000) -> Tensor:
    draw = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(draw, dim=1)


def test_a_ball_bends_by_reach_over_diameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatness, "REACH", (0.05, 0.05))
    normals, radius = around(), 0.7
    found = bending(
        radius * normals, torch.zeros(4000), normals, lambda x: x.norm(dim=1) - radius, torch.Generator().manual_seed(0)
    )
    assert float(found) == pytest.approx(0.05 / (2 * radius), rel=0.01)


def test_plates_do_not_bend_and_their_edges_are_left_alone() -> None:
    """A wall z = 0 of any slant, up to an edge at x = 0 beyond which it falls away."""
    x = torch.cat([-torch.rand(4000, 1) * 0.1, torch.rand(4000, 2) - 0.5], 1) * torch.tensor([1.0, 1.0, 0.0])

    def wall(places: Tensor) -> Tensor:
        return torch.maximum(places[:, 2], places[:, 0])

    up = torch.tensor([[0.0, 0.0, 1.0]]).expand(4000, 3)
    flat = bending(x, torch.zeros(4000), up, lambda places: places[:, 2], torch.Generator().manual_seed(0))
    assert float(flat) == 0.0
    near_edge = bending(x, wall(x), up, wall, torch.Generator().manual_seed(0))
    slanted = torch.nn.functional.normalize(torch.tensor([[0.3, 0.2, 1.0]]), dim=1).expand(4000, 3)
    elsewhere = bending(x, x @ slanted[0], slanted, lambda places: places @ slanted[0], torch.Generator())
    assert float(elsewhere) < 1e-6
    assert float(near_edge) < 0.005


def test_it_flattens_a_dent() -> None:
    """Its gradient lowers the middle of a bump and raises that of a dent."""
    middle = torch.zeros(500, 3)
    up = torch.tensor([[0.0, 0.0, 1.0]]).expand(500, 3)
    for sign in (1.0, -1.0):
        value = torch.zeros(500, requires_grad=True)

        def wavy(places: Tensor, sign: float = sign) -> Tensor:
            return places[:, 2] - sign * 0.003 * (torch.cos(places[:, :2].norm(dim=1) * math.pi / 0.2) - 1.0)

        (slope,) = torch.autograd.grad(bending(middle, value, up, wavy, torch.Generator().manual_seed(0)), value)
        assert float(slope.sum()) * sign < 0
