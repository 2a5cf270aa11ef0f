"""Costs of slanted patches in plain torch, many pixels at once: `csrc/patch.h` and `csrc/geometry.h`.

Pixel coordinates are array indices: the centre of pixel (0, 0) is (0, 0). P pixels, C planes a pixel, S samples of a
window. A plane is [nx, ny, nz, d] with n . X + d = 0 in camera axes of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.camera import Camera
from tasks.stereo.kernel import WORST_COST, Source
from tasks.stereo.photo import Level

RADIUS = 5
SPATIAL_SIGMA = 5.0
MOST_ERROR_PX = 3.0
_OFFSETS = [(i, j) for j in range(-RADIUS, RADIUS + 1, 2) for i in range(-RADIUS, RADIUS + 1, 2)]


class Pinhole(NamedTuple):
    """Intrinsics in array indices: the principal point of the camera minus half a pixel."""

    fx: float
    fy: float
    cx: float
    cy: float

    @staticmethod
    def of(camera: Camera) -> Pinhole:
        """Of a camera."""
        return Pinhole(camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5)

    def matrix(self) -> np.ndarray:
        """[3, 3]"""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def rays(self, x: Tensor, y: Tensor) -> Tensor:
        """[P, 3] directions through pixels, their z component 1."""
        return torch.stack([(x - self.cx) / self.fx, (y - self.cy) / self.fy, torch.ones_like(x)], -1)


@dataclass(frozen=True)
class Picture:
    """A photo on a device."""

    quads: Tensor
    """[H * W] int32: each pixel with its right, lower and lower right neighbours, 8 bits each from the lowest."""
    width: int
    height: int
    k: Pinhole

    @staticmethod
    def of(level: Level, device: str) -> Picture:
        """One size of a photo."""
        quads = torch.from_numpy(level.quads.view(np.int32)).to(device)
        return Picture(quads.reshape(-1), level.camera.width, level.camera.height, Pinhole.of(level.camera))


@dataclass(frozen=True)
class SourceView:
    """A source photo as the reference sees it: x_source ~ (a - b m^T / d) x_reference, m = K_reference^-T n."""

    picture: Picture
    a: Tensor
    b: Tensor
    r: Tensor
    t: Tensor
    depth: Tensor | None
    """[H * W] its depth so far, for geometric consistency."""

    @staticmethod
    def of(reference: Level, source: Source, device: str) -> SourceView:
        """On a device."""
        picture = Picture.of(source.level, device)
        r, t = source.source_from_reference[:3, :3], source.source_from_reference[:3, 3]
        k, inverse = picture.k.matrix(), np.linalg.inv(Pinhole.of(reference.camera).matrix())
        made = [torch.tensor(each, dtype=torch.float32, device=device) for each in (k @ r @ inverse, k @ t, r, t)]
        depth = None if source.depth is None else torch.from_numpy(source.depth).to(device).reshape(-1)
        return SourceView(picture, made[0], made[1], made[2], made[3], depth)


class Patches(NamedTuple):
    """The reference's samples around pixels."""

    weight: Tensor
    """[P, S] bilateral, sum to one."""
    weighted: Tensor
    """[P, S] weight * (grey value - mean)."""
    mean: Tensor
    """[P]"""
    variance: Tensor
    """[P] in squared grey values."""

    def at(self, chosen: Tensor) -> Patches:
        """Of some pixels."""
        return Patches(*(part[chosen] for part in self))


def window(device: torch.device) -> tuple[Tensor, Tensor]:
    """Column and row offsets [S] of the samples: an 11 x 11 window, every second pixel."""
    dx, dy = torch.tensor(_OFFSETS, dtype=torch.int64, device=device).T
    return dx, dy


def make_patches(picture: Picture, mask: Tensor | None, colour_sigma: float, x: Tensor, y: Tensor) -> Patches:
    """The patches around pixels x, y [P]; samples outside the picture or the mask [H * W] weigh nothing."""
    dx, dy = window(x.device)
    column, row = x[:, None] + dx, y[:, None] + dy
    inside = (column >= 0) & (row >= 0) & (column < picture.width) & (row < picture.height)
    at = torch.where(inside, row * picture.width + column, 0)
    if mask is not None:
        inside &= mask[at]
    value = (picture.quads[at] & 255).float()
    centre = (picture.quads[y * picture.width + x] & 255).float()
    spatial = torch.exp(-(dx**2 + dy**2).float() / (2 * SPATIAL_SIGMA**2))
    weight = inside * spatial * torch.exp(-(value - centre[:, None]).abs() / colour_sigma)
    total = weight.sum(1, keepdim=True)
    weight = torch.where(total > 0, weight / total, 0)
    mean = (weight * value).sum(1)
    off = value - mean[:, None]
    return Patches(weight, weight * off, mean, (weight * off**2).sum(1))


def depth_at(planes: Tensor, rays: Tensor) -> Tensor:
    """Depths along z of planes [.., 4] at rays [.., 3]."""
    return -planes[..., 3] / (planes[..., :3] * rays).sum(-1)


def patch_costs(
    patches: Patches, k: Pinhole, source: SourceView, planes: Tensor, x: Tensor, y: Tensor, min_variance: float
) -> Tensor:
    """[P, C] 1 - NCC in [0, 2] of planes [P, C, 4] at pixels x, y [P].

    2 where the window leaves the source's picture or has no texture there.
    """
    h = _homographies(k, source, planes)
    corners = torch.tensor([[i, j] for i in (-RADIUS, RADIUS) for j in (-RADIUS, RADIUS)], device=x.device)
    u, v, z = _mapped(h, x[:, None] + corners[:, 0], y[:, None] + corners[:, 1])
    width, height = source.picture.width, source.picture.height
    inside = ((z > 0) & (u >= 0) & (v >= 0) & (u <= (width - 1) * z) & (v <= (height - 1) * z)).all(-1)
    dx, dy = window(x.device)
    u, v, z = _mapped(h, x[:, None] + dx, y[:, None] + dy)
    # what leaves the picture is read at its border and dropped below
    u, v = (u / z).nan_to_num().clamp(0, width - 1), (v / z).nan_to_num().clamp(0, height - 1)
    value = _bilinear(source.picture, u, v) - patches.mean[:, None, None]
    weight = patches.weight[:, None]
    mean, square = (weight * value).sum(-1), (weight * value**2).sum(-1)
    variance = square - mean**2
    product = (patches.weighted[:, None] * value).sum(-1)
    ncc = product / (variance * patches.variance[:, None]).clamp_min(1e-20).sqrt()
    return torch.where(inside & (variance >= min_variance), 1 - ncc.clamp(-1, 1), WORST_COST)


def _homographies(k: Pinhole, source: SourceView, planes: Tensor) -> Tensor:
    """[P, C, 3, 3] pixels of the reference to those of a source by planes."""
    n0, n1 = planes[..., 0] / k.fx, planes[..., 1] / k.fy
    m = torch.stack([n0, n1, planes[..., 2] - n0 * k.cx - n1 * k.cy], -1) / planes[..., 3:]
    return source.a - source.b[:, None] * m[..., None, :]


def _mapped(h: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[P, C, N] homogeneous pixels of points x, y [P, N] through h [P, C, 3, 3]."""
    x, y = x[:, None].float(), y[:, None].float()
    u, v, z = (h[..., i, 0, None] * x + h[..., i, 1, None] * y + h[..., i, 2, None] for i in range(3))
    return u, v, z


def _bilinear(picture: Picture, u: Tensor, v: Tensor) -> Tensor:
    """Grey values at columns u and rows v, inside."""
    column, row = u.long(), v.long()
    quad = picture.quads[row * picture.width + column]
    v00, v01, v10, v11 = ((quad >> shift & 255).float() for shift in (0, 8, 16, 24))
    along, down = u - column, v - row
    upper, lower = v00 + along * (v01 - v00), v10 + along * (v11 - v10)
    return upper + down * (lower - upper)


def reprojection_error(k: Pinhole, source: SourceView, rays: Tensor, z: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[P, C] pixels between x, y [P] and where the source's depth of their points takes them; 3 where it has none.

    Args:
        rays: [P, 3] of the pixels.
        z: [P, C] their depths.
    """
    assert source.depth is not None
    s = source.picture
    p = z[..., None] * (rays @ source.r.T)[:, None] + source.t
    u, v = s.k.fx * p[..., 0] / p[..., 2] + s.k.cx + 0.5, s.k.fy * p[..., 1] / p[..., 2] + s.k.cy + 0.5
    inside = (p[..., 2] > 0) & (u >= 0) & (v >= 0) & (u < s.width) & (v < s.height)
    at = torch.where(inside, v, 0).long() * s.width + torch.where(inside, u, 0).long()
    found = source.depth[at]
    scale = found / p[..., 2]
    q = torch.stack([p[..., 0] * scale, p[..., 1] * scale, found], -1) - source.t
    back = q @ source.r
    du = k.fx * back[..., 0] / back[..., 2] + k.cx - x[:, None]
    dv = k.fy * back[..., 1] / back[..., 2] + k.cy - y[:, None]
    error = torch.hypot(du, dv).clamp_max(MOST_ERROR_PX)
    return torch.where(inside & (found > 0) & (back[..., 2] > 0), error, MOST_ERROR_PX)
