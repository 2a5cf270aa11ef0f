"""Photometric consistency of a surface: patches of neighbouring photos, brought together by its shape.

The term of Geo-NeuS (Fu et al. 2022, section 3.3) and PGSR (Chen et al. 2024, eq. 12): where the point and its normal
are right, a patch of one photo and what another photo shows of the same piece of the surface correlate. They take the
plane for the surface, and what correlates best then is a plane through the middle of the bend: convex shapes end too
small by half the mean curvature times the patch's mean square radius. Patches here bend as the field does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from tasks.train.pixel_bank import PixelBank

PATCH = 7
"""Edge of a patch in pixels, odd."""
NEIGHBOURS, SOURCES, BEST = 8, 4, 2
"""Photos that are compared with each, how many of them at a time, and how many of these count: those that correlate
best, because the others may not see the point."""
ANGLES = (math.radians(4.0), math.radians(45.0))
"""Between the directions to two cameras: less tells nothing about the depth, more changes what is seen."""
FACING = 0.25
"""Least cosine between the normal and the directions to the cameras."""
WORST = 0.6
"""1 - NCC from which on two patches do not show the same thing: hidden, or the point is elsewhere altogether."""
TEXTURE = 0.004
"""Least standard deviation of a patch: what is flat correlates with anything."""


class Surface(NamedTuple):
    """Points on a surface that photos see, differentiable by the surface."""

    x: Tensor
    """[M, 3] field coordinates, along the rays of the pixels below."""
    slopes: Tensor
    """[M, 3] gradients of the distance there, of length about 1."""
    photo: Tensor
    """[M] int64."""
    number: Tensor
    """[M] int64, the pixel's number in the bank."""


class PhotoConsistency:
    """The photos in grey, and which of them are compared.

    Args:
        bank: the photos; all of them in memory.
    """

    def __init__(self, bank: PixelBank) -> None:
        self.bank = bank
        self.grey = bank.grey()
        self.sources = neighbours(bank.centres)
        """[P, NEIGHBOURS] int64; -1 where there are no more."""
        reach = torch.arange(PATCH, device=self.grey.device) - PATCH // 2
        v, u = torch.meshgrid(reach, reach, indexing="ij")
        self.offsets = torch.stack([u.reshape(-1), v.reshape(-1)], 1)
        self.knots, self.between_knots = _biquadratic(self.offsets)

    def loss(
        self,
        surface: Surface,
        distances: Callable[[Tensor], Tensor],
        hidden: Callable[[Tensor, Tensor], Tensor],
        generator: torch.Generator,
    ) -> Tensor | None:
        """Mean of 1 - NCC over the best sources of every point; None where nothing can be compared.

        Args:
            distances: signed distances [N] of places [N, 3] to the surface; not followed by gradients.
            hidden: tells of points [N, 3] whether the surface hides them from places [N, 3].
        """
        whole, photo, local = self._whole_patches(surface)
        surface = Surface(*(part[whole] for part in surface))
        if not len(surface.x):
            return None
        x, n = surface.x[:, None], normalize(surface.slopes, dim=1)[:, None]
        rays_o, rays_d = self.bank.rays(photo[:, None], local)
        along = (rays_d * n).sum(2)
        t = ((x - rays_o) * n).sum(2) / torch.where(along.abs() < 1e-3, -torch.ones_like(along), along)
        t = t + self._bend(rays_o + t[..., None] * rays_d, rays_d, surface, distances)
        piece = rays_o + t[..., None] * rays_d
        sources, known = self._draw_sources(photo, generator)
        seen, inside = self._look(piece, sources)
        patches = self._brightness(local + self.bank.starts[photo][:, None])
        centres, points = self.bank.centres[sources], surface.x.detach()[:, None].expand(-1, sources.shape[1], -1)
        towards = normalize(centres - points, dim=2)
        facing = ((towards * n).sum(2) > FACING) & ((-rays_d[:, :1] * n).sum(2) > FACING)
        similarity, textured = ncc(patches[:, None], seen)
        loss = 1.0 - similarity
        usable = known & facing & inside & textured & (t > 0).all(1)[:, None] & (loss.detach() < WORST)
        usable[usable.clone()] = ~hidden(points[usable], centres[usable])
        return _best(loss, usable)

    @torch.no_grad()
    def _bend(self, plane: Tensor, rays_d: Tensor, surface: Surface, distances: Callable[[Tensor], Tensor]) -> Tensor:
        """How much further along their rays [m, J, 3] the surface lies than its plane, met at [m, J, 3]: [m, J].

        Distances are asked at nine places of a patch and go up and down as a biquadratic in between.
        """
        places, ways = plane[:, self.knots], rays_d[:, self.knots]
        height = distances(places.reshape(-1, 3)).view(len(places), -1)
        height = height - height[:, len(self.knots) // 2, None]
        reach = (places[:, :1] - places[:, -1:]).norm(dim=2) / 4.0
        rise = (ways * surface.slopes[:, None]).sum(2).clamp(max=-FACING)
        further = (-height / rise).clamp(-reach, reach)
        return further @ self.between_knots

    def _brightness(self, number: Tensor) -> Tensor:
        """In [0, 1], of pixels by their number."""
        return self.grey[number].float() / 255.0

    def _whole_patches(self, surface: Surface) -> tuple[Tensor, Tensor, Tensor]:
        """Which points [M] have patches that lie within their photo; those' photos [m] and pixels [m, PATCH^2]."""
        sizes = torch.tensor(self.bank.sizes, device=self.grey.device)[surface.photo]
        local = surface.number - self.bank.starts[surface.photo]
        middle = torch.stack([local % sizes[:, 0], local // sizes[:, 0]], 1)
        reach = PATCH // 2
        whole = ((middle >= reach) & (middle < sizes - reach)).all(1)
        places = middle[whole][:, None] + self.offsets
        return whole, surface.photo[whole], places[..., 1] * sizes[whole][:, :1] + places[..., 0]

    def _draw_sources(self, photo: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """[m, SOURCES] photos to compare with, and whether there are so many."""
        among = self.sources[photo]
        order = torch.rand(among.shape, generator=generator, device=among.device).masked_fill(among < 0, 2.0)
        drawn = among.gather(1, order.argsort(1)[:, :SOURCES])
        return drawn.clamp(min=0), drawn >= 0

    def _look(self, plane: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """What photos [m, S] show at places [m, J, 3]: grey [m, S, J], and whether all lie within them [m, S]."""
        count, samples = sources.shape[1], plane.shape[1]
        flat = sources[:, :, None].expand(-1, -1, samples).reshape(-1)
        x = plane[:, None].expand(-1, count, -1, -1).reshape(-1, 3)
        seen = self.bank.look(x, flat, self.grey)
        shape = (len(plane), count, samples)
        return seen.value.view(shape), seen.inside.view(shape).all(2)


def ncc(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised cross-correlation in [-1, 1] of patches a [..., J] and b [..., J], and whether both have texture."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    least = TEXTURE**2 * a.shape[-1]
    aa, bb = (a * a).sum(-1), (b * b).sum(-1)
    similarity = (a * b).sum(-1) * torch.rsqrt(aa.clamp(min=least) * bb.clamp(min=least))
    return similarity, (aa > least) & (bb.detach() > least)


def _best(loss: Tensor, usable: Tensor) -> Tensor | None:
    """Mean over points of the BEST lowest losses [m, S] that are usable; None where there is none."""
    ranked, order = loss.masked_fill(~usable, torch.inf).sort(1)
    counted = usable.gather(1, order[:, :BEST])
    return ranked[:, :BEST][counted].mean() if bool(counted.any()) else None


def _biquadratic(offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Which nine of a patch's offsets [J, 2] carry a biquadratic, and the weights [9, J] of their values everywhere."""
    reach = PATCH // 2
    knots = ((offsets.abs() == reach) | (offsets == 0)).all(1).nonzero()[:, 0]
    u = offsets.float() / reach
    basis = torch.stack([u[:, 0] ** i * u[:, 1] ** j for j in range(3) for i in range(3)])
    return knots, torch.linalg.solve(basis[:, knots], basis)


def neighbours(centres: Tensor) -> Tensor:
    """[P, NEIGHBOURS] for cameras at [P, 3] that look at the region around 0: those seen under useful angles, nearest
    first; -1 where there are no more."""
    towards = normalize(centres, dim=1)
    angle = torch.arccos((towards @ towards.t()).clamp(-1.0, 1.0))
    useful = (angle > ANGLES[0]) & (angle < ANGLES[1])
    order = angle.masked_fill(~useful, torch.inf).argsort(1)[:, :NEIGHBOURS]
    found = order.masked_fill(~useful.gather(1, order), -1)
    return pad(found, (0, max(NEIGHBOURS - found.shape[1], 0)), value=-1)
