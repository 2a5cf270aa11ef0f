"""A scene known in closed form: a sphere, a cube and a torus with checker colours and highlights in the unit cube.

Pictures of 100x100 pixels with exact alpha, rendered by sphere tracing; 40 to train on and 8 held out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

EDGE_PX = 100
FOCAL_PX = EDGE_PX / 2 / math.tan(math.radians(25))
TRAIN_VIEWS, TEST_VIEWS = 40, 8
TEST_TURN = 1.3
"""Angle in radians by which the held-out poses are turned about z."""


class Rays(NamedTuple):
    """All pixels of some pictures."""

    origins: Tensor
    """[N, 3] in the unit cube's coordinates."""
    directions: Tensor
    """[N, 3] of unit length."""
    rgb: Tensor
    """[N, 3] premultiplied with alpha."""
    alpha: Tensor
    """[N]."""


def sdf(p: Tensor) -> Tensor:
    """[..., 3] signed distances of points [..., 3] to sphere, cube and torus."""
    q = p - 0.5
    sphere = (q - torch.tensor([-0.16, 0, 0.02])).norm(dim=-1) - 0.13
    b = (q - torch.tensor([0.16, 0.12, -0.04])).abs() - 0.09
    cube = b.clamp(min=0).norm(dim=-1) + b.max(-1)[0].clamp(max=0)
    t = q - torch.tensor([0.06, -0.17, 0.0])
    torus = torch.stack([t[..., :2].norm(dim=-1) - 0.12, t[..., 2]], -1).norm(dim=-1) - 0.045
    return torch.stack([sphere, cube, torus], -1)


def colour(p: Tensor, n: Tensor, d: Tensor) -> Tensor:
    """[N, 3] of surface points [N, 3] with normals [N, 3] seen along [N, 3]."""
    body = sdf(p).argmin(-1)
    base = torch.tensor([[0.9, 0.25, 0.2], [0.2, 0.7, 0.3], [0.25, 0.35, 0.9]])[body]
    checker = ((torch.sin(p * 60).prod(-1) > 0).float() * 0.35 + 0.65)[..., None]
    light = normalize(torch.tensor([0.4, 0.3, 0.85]), dim=0)
    half = normalize(light - d, dim=-1)
    diffuse = 0.35 + 0.65 * (n @ light).clamp(min=0)[..., None]
    highlight = 0.25 * (n * half).sum(-1).clamp(min=0)[..., None] ** 24
    return (base * checker * diffuse + highlight).clamp(0, 1)


def pose(number: int, count: int, turn: float) -> tuple[Tensor, Tensor]:
    """Centre [3] and rotation [3, 3] (columns x right, y down, z forward) of one of `count` cameras around the cube."""
    g = (number + 0.5) / count
    theta = math.acos(1 - 1.6 * g)
    phi = math.pi * (1 + 5**0.5) * number + turn
    away = torch.tensor([math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)]) * 1.3
    z = normalize(-away, dim=0)
    x = normalize(torch.linalg.cross(z, torch.tensor([0.0, 0, 1.0])), dim=0)
    y = torch.linalg.cross(z, x)
    return away + 0.5, torch.stack([x, y, z], 1)


def rays(rotation: Tensor, right: float = 0.5, down: float = 0.5) -> Tensor:
    """[EDGE_PX^2, 3] unit directions through a place of every pixel, row by row; its centre by default."""
    axis = torch.arange(EDGE_PX)
    v, u = torch.meshgrid(axis + down, axis + right, indexing="ij")
    ones = torch.ones(EDGE_PX, EDGE_PX)
    local = torch.stack([(u - EDGE_PX / 2) / FOCAL_PX, (v - EDGE_PX / 2) / FOCAL_PX, ones], -1).reshape(-1, 3)
    return normalize(local @ rotation.T, dim=-1)


def render(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Colour [N, 3] (black where nothing is hit) and hit [N] of rays [N, 3]."""
    t = torch.full((o.shape[0],), 0.4)
    for _ in range(120):
        t = (t + sdf(o + t[:, None] * d).amin(-1) * 0.95).clamp(max=3)
    p = o + t[:, None] * d
    hit = sdf(p).amin(-1) < 2e-3
    e = 1e-4
    n = torch.stack([sdf(p + e * v).amin(-1) - sdf(p - e * v).amin(-1) for v in torch.eye(3)], -1)
    return colour(p, normalize(n, dim=-1), d) * hit[:, None], hit.float()


def dataset(views: int, turn: float, supersample: int = 3) -> Rays:
    """The pixels of `views` pictures; colour and alpha are means over supersample^2 places of each pixel."""
    origins, directions, colours, alphas = [], [], [], []
    for number in range(views):
        centre, rotation = pose(number, views, turn)
        o = centre.expand(EDGE_PX * EDGE_PX, 3).contiguous()
        rgb, alpha = torch.zeros(len(o), 3), torch.zeros(len(o))
        for j in range(supersample * supersample):
            right, down = (j % supersample + 0.5) / supersample, (j // supersample + 0.5) / supersample
            found, hit = render(o, rays(rotation, right, down))
            rgb, alpha = rgb + found / supersample**2, alpha + hit / supersample**2
        origins.append(o)
        directions.append(rays(rotation))
        colours.append(rgb)
        alphas.append(alpha)
    return Rays(*(torch.cat(part).contiguous() for part in (origins, directions, colours, alphas)))


def train_and_test(cache: Path) -> tuple[Rays, Rays]:
    """The pictures to train on and the held-out ones, from the file `cache`, made in half a minute if need be."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        parts = (tuple(dataset(TRAIN_VIEWS, 0.0)), tuple(dataset(TEST_VIEWS, TEST_TURN)))
        unfinished = cache.with_suffix(".part")
        torch.save(parts, unfinished)
        unfinished.replace(cache)
    train, test = torch.load(cache)
    return Rays(*train), Rays(*test)
