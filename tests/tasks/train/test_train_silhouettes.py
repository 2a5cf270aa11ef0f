"""Masks as a bound: a ball of known radius, photographed from all around."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.camera import Camera, pixel_rays
from tasks.sample.scenes import look_at
from tasks.train import silhouettes
from tasks.train.methods.hash_sdf import Options
from tasks.train.pixel_bank import PixelBank
from tasks.train.sdf_learner import SDFLearner, new_surface
from tasks.train.silhouettes import Silhouettes

RADIUS, SIZE, FINE = 0.5, 96, 6
CAMERA = Camera(width=SIZE, height=SIZE, fx=110.0, fy=112.0, cx=47.0, cy=49.0)


def ball_bank(count: int = 14) -> PixelBank:
    """Masks as cameras make them: the share of a pixel that the ball fills."""
    turns = np.arange(count) * 2.399
    heights = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    poses, masks = [], []
    for turn, height in zip(turns, heights, strict=True):
        flat = np.sqrt(1 - height**2)
        pose = look_at(2.6 * np.array([flat * np.cos(turn), flat * np.sin(turn), height]))
        origins, directions = pixel_rays(CAMERA.resized(SIZE * FINE, SIZE * FINE), pose)
        nearest = np.linalg.norm(np.cross(origins, directions), axis=1)
        share = (nearest < RADIUS).reshape(SIZE, FINE, SIZE, FINE).mean((1, 3))
        masks.append(np.round(share * 255).astype(np.uint8))
        poses.append(pose)
    pictures = [np.zeros((SIZE, SIZE, 3), np.uint8)] * count
    return PixelBank([CAMERA] * count, np.stack(poses), pictures, masks, "cpu")


def around(radius: float, count: int = 4000) -> torch.Tensor:
    draw = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    return radius * torch.nn.functional.normalize(draw, dim=1)


def excess(bank: PixelBank, radius: float, shift: float = 0.0) -> float:
    """Of points at that radius whose signed distance to the ball is wrong by `shift`."""
    value = torch.full((4000,), radius - RADIUS + shift)
    return float(Silhouettes(bank).bound(around(radius), value, torch.Generator()).excess)


def test_a_shape_within_its_masks_is_left_alone_and_a_swollen_one_is_not() -> None:
    bank, pixel = ball_bank(), 2.6 / 111.0
    for radius in (RADIUS - 2 * pixel, RADIUS, RADIUS + 0.3 * pixel):
        assert excess(bank, radius) < 0.05
    assert excess(bank, RADIUS, -pixel) < 0.01  # 0.44 if the worst mask counted to the last hundredth
    assert excess(bank, RADIUS, -0.5 * pixel) < 0.25  # outlines of 14 photos pass near few of its points
    assert excess(bank, RADIUS + pixel, -pixel) > 0.35
    assert excess(bank, RADIUS + 2 * pixel, -2 * pixel) > 0.39


def test_the_terms_push_out_of_the_empty_and_fill_the_rest() -> None:
    bank, pixel = ball_bank(), 2.6 / 111.0
    x = torch.cat([around(RADIUS + 2 * pixel, 50), around(RADIUS - 2 * pixel, 50)])
    value = torch.full((100,), -0.1 * pixel, requires_grad=True)
    found = Silhouettes(bank).bound(x, value, torch.Generator())
    (shrinks,) = torch.autograd.grad(found.excess, value, retain_graph=True)
    (grows,) = torch.autograd.grad(found.room, value)
    assert bool((shrinks[:50] < 0).all()) and bool((shrinks[50:] == 0).all())
    assert bool((grows[:50] == 0).all()) and bool((grows[50:] > 0).all())


def test_points_that_no_photo_shows_are_not_bounded() -> None:
    bank = ball_bank(1)
    behind = bank.centres[0] * 1.5 + torch.zeros(3, 3)
    found = Silhouettes(bank).bound(behind, torch.full((3,), -0.2), torch.Generator())
    assert (float(found.excess), float(found.room)) == (0.0, 0.0)


def test_of_many_photos_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = ball_bank()
    everything = excess(bank, RADIUS + 0.04, -0.08)
    monkeypatch.setattr(silhouettes, "PHOTOS", 4)
    assert 0.0 < excess(bank, RADIUS + 0.04, -0.08) < everything


def test_a_ball_that_starts_too_large_is_cut_to_its_masks() -> None:
    """By the bound alone: where every pixel is black before black, rendering has nothing to say."""
    bank, found = ball_bank(), {}
    for carve in (0.0, 0.5):
        small = {"log2_table": 12, "levels": 4, "max_resolution": 32, "levels_from": 4, "hidden": 32, "ray_steps": 128}
        terms = {
            "carve": carve,
            "fill": 0.1 * carve,
            "ncc": 0.0,
            "rough_until": 0.0,
            "initial_radius": 0.6,
            "learning_rate": 0.02,
        }
        values = {**small, **terms, "occupancy_resolution": 32, "mask_use": "empty", "samples_per_step": 4096}
        options = Options.model_validate({**values, "background_levels": 0})
        learner = SDFLearner(new_surface(options, 0, False), bank, None, options, 0, "cpu")
        learner._colour_loss = lambda batch, seen: seen.through.sum() * 0.0  # type: ignore[method-assign]
        for step in range(80):
            learner.step(0.6 + 0.003 * step, 1.0)
        t = torch.linspace(0.3, 0.9, 200)
        with torch.no_grad():
            value = learner.field.query((around(1.0, 500)[:, None] * t[:, None]).view(-1, 3))[0].view(500, 200)
        found[carve] = float(t[(value > 0).float().argmax(1)].mean())
    assert found[0.0] > 0.55
    assert abs(found[0.5] - RADIUS) < 0.03


def test_a_pixel_s_ray_is_shown_where_the_pixel_is() -> None:
    bank = ball_bank(3)
    shades = torch.randint(256, (bank.pixels,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels = bank.take(torch.arange(5, bank.pixels, 997))
    found = bank.look(pixels.rays_o + 1.7 * pixels.rays_d, pixels.photo, shades)
    inner = found.inside
    assert inner.float().mean() > 0.9
    assert torch.allclose(found.value[inner], shades[pixels.number[inner]] / 255.0, atol=5e-3)
    assert torch.allclose(bank.pixel_at(found.depth, pixels.photo), found.depth / 111.0)
