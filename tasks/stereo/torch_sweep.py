"""PatchMatch over one photo in plain torch, for GPUs: the definition of `csrc/sweep.h`, with the same random numbers.

All pixels of one colour of a chess board are changed at once, a chunk at a time; they read those of the other colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasks.stereo.kernel import WORST_COST, Search, Source
from tasks.stereo.photo import Level
from tasks.stereo.torch_patch import (
    Patches,
    Picture,
    SourceView,
    depth_at,
    make_patches,
    patch_costs,
    reprojection_error,
)
from tasks.stereo.torch_random import Random

CHUNK = 1 << 15
"""Pixels at once: about 1 GB of memory with five planes."""
UNSET = 1e9
PRIOR_TEXTURE = 25.0
"""Variance in squared grey values at which the given depth counts 1 / e."""
LEAST_COSINE = 0.05
"""Of the angle between a plane's normal and the ray."""
_ALONG = ((0, -1), (0, 1), (-1, 0), (1, 0))
_FAR_PX = 23


def patchmatch(
    reference: Level,
    sources: Sequence[Source],
    search: Search,
    depth: npt.NDArray[np.float32],
    normal: npt.NDArray[np.float32],
    prior: npt.NDArray[np.float32] | None = None,
    device: str = "cuda",
) -> npt.NDArray[np.float32]:
    """Estimate a plane for each pixel: `kernel.patchmatch` on a device of torch, arguments and result as there."""
    with torch.no_grad():
        sweep = Sweep(reference, sources, search, prior, device)
        sweep.start(depth, normal)
        for iteration in range(search.iterations):
            sweep.iterate(iteration)
        found = sweep.finish()
    depth[:], normal[:] = found[0], found[1]
    return found[2]


class Sweep:
    """The planes of one photo and what is known of them."""

    def __init__(
        self,
        reference: Level,
        sources: Sequence[Source],
        search: Search,
        prior: npt.NDArray[np.float32] | None,
        device: str,
    ) -> None:
        self._set, self._device = search, device
        self._picture = Picture.of(reference, device)
        self._sources = [SourceView.of(reference, source, device) for source in sources]
        pixels = self._picture.width * self._picture.height
        self._mask = None if reference.mask is None else torch.from_numpy(reference.mask).to(device).reshape(-1) > 0
        self._prior = None if prior is None else torch.from_numpy(prior).to(device).reshape(-1)
        self._wanted = torch.arange(pixels, device=device)
        if self._mask is not None:
            self._wanted = self._wanted[self._mask]
        self._planes = torch.zeros(pixels, 4, device=device)
        self._costs = torch.full((pixels,), UNSET, device=device)
        self._votes = torch.zeros(pixels, len(sources), dtype=torch.bool, device=device)

    def start(self, depth: npt.NDArray[np.float32], normal: npt.NDArray[np.float32]) -> None:
        """A first plane for each pixel: the given one where depth > 0, a random one elsewhere."""
        given = torch.from_numpy(depth).to(self._device).reshape(-1)
        normals = torch.from_numpy(normal).to(self._device).reshape(-1, 3)
        for at in _chunks(self._wanted):
            x, y, rays = self._pixels(at)
            n = _facing(normals[at], rays)
            planes, there = torch.cat([n, -(given[at] * (n * rays).sum(1))[:, None]], 1), given[at, None] > 0
            random = Random(self._set.seed, 0, at)
            first, second = self._random_planes(random, rays), self._random_planes(random, rays)
            planes = torch.where(there, planes, first)
            # planes may be too steep for their pixel
            steep = (planes[:, :3] * rays).sum(1, keepdim=True) > -LEAST_COSINE
            self._planes[at] = planes = torch.where(steep, torch.where(there, first, second), planes)
            patches = self._patches(x, y)
            costs = self._view_costs(patches, planes[:, None], rays, x, y, True)
            weights = _best_views(costs[:, 0])
            textured = patches.variance >= self._set.min_variance
            total = self._total(patches, planes[:, None], rays, at, costs, weights)[:, 0]
            self._costs[at] = torch.where(textured, total, UNSET)
            self._votes[at] = weights > 0

    def iterate(self, iteration: int) -> None:
        """One sweep: both colours."""
        x, y = self._wanted % self._picture.width, self._wanted // self._picture.width
        for colour in (0, 1):
            chosen = self._wanted[((x + y) % 2 == colour) & (self._costs[self._wanted] < UNSET)]
            for at in _chunks(chosen):
                self._update(at, iteration)

    def finish(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Depth [H, W], normal [H, W, 3] and photometric cost [H, W]; depth 0 where there is nothing to compare."""
        shape = (self._picture.height, self._picture.width)
        depth = torch.zeros(len(self._costs), device=self._device)
        normal, cost = depth.new_zeros(len(depth), 3), torch.full_like(depth, WORST_COST)
        for at in _chunks(self._wanted[self._costs[self._wanted] < UNSET]):
            x, y, rays = self._pixels(at)
            planes = self._planes[at]
            costs = self._view_costs(self._patches(x, y), planes[:, None], rays, x, y, False)
            cost[at] = _mean(costs, self._votes[at].float())[:, 0]
            depth[at], normal[at] = depth_at(planes, rays), planes[:, :3]
        return (
            depth.reshape(shape).cpu().numpy(),
            normal.reshape(*shape, 3).cpu().numpy(),
            cost.reshape(shape).cpu().numpy(),
        )

    def _pixels(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Columns, rows and rays of pixels."""
        x, y = at % self._picture.width, at // self._picture.width
        return x, y, self._picture.k.rays(x.float(), y.float())

    def _patches(self, x: Tensor, y: Tensor) -> Patches:
        return make_patches(self._picture, self._mask, self._set.colour_sigma, x, y)

    def _random_planes(self, random: Random, rays: Tensor) -> Tensor:
        # even in inverse depth: even in the sources' pixels
        far, near = 1.0 / self._set.depth_max, 1.0 / self._set.depth_min
        z = 1.0 / (far + (near - far) * random.uniform())
        n = torch.stack([random.symmetric() for _ in range(3)], 1)
        # steep planes are rare: few photos see them
        n[:, 2] -= 0.5
        n = _facing(n, rays)
        return torch.cat([n, -(z * (n * rays).sum(1))[:, None]], 1)

    def _possible(self, planes: Tensor, rays: Tensor) -> Tensor:
        z = depth_at(planes, rays)
        steep = (planes[..., :3] * rays).sum(-1) > -LEAST_COSINE
        return ~steep & (z >= self._set.depth_min) & (z <= self._set.depth_max)

    def _view_costs(
        self, patches: Patches, planes: Tensor, rays: Tensor, x: Tensor, y: Tensor, geometric: bool
    ) -> Tensor:
        """[P, C, V] costs of planes [P, C, 4]."""
        costs, z = [], depth_at(planes, rays[:, None])
        for source in self._sources:
            cost = patch_costs(patches, self._picture.k, source, planes, x, y, self._set.min_variance)
            if geometric and self._set.geometric_weight > 0 and source.depth is not None:
                cost += self._set.geometric_weight * reprojection_error(self._picture.k, source, rays, z, x, y)
            costs.append(cost)
        return torch.stack(costs, -1)

    def _total(
        self, patches: Patches, planes: Tensor, rays: Tensor, at: Tensor, costs: Tensor, weights: Tensor
    ) -> Tensor:
        """[P, C] mean cost, and what leaving the given depth costs where there is little texture."""
        cost = _mean(costs, weights)
        if self._prior is not None:
            prior = self._prior[at][:, None]
            off = ((depth_at(planes, rays[:, None]) / prior - 1).abs() / self._set.prior_span).clamp_max(1)
            plain = self._set.prior_weight * torch.exp(-patches.variance / PRIOR_TEXTURE)
            cost = cost + torch.where(prior > 0, plain[:, None] * off, 0)
        return cost

    def _candidates(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """[P, A] pixels of least cost in areas of the other colour, and which there are."""
        found, there = [], []
        for offsets in _areas(self._set.explore):
            dx, dy = torch.tensor(offsets, device=x.device).T
            column, row = x[:, None] + dx, y[:, None] + dy
            inside = (column >= 0) & (row >= 0) & (column < self._picture.width) & (row < self._picture.height)
            at = torch.where(inside, row * self._picture.width + column, 0)
            costs = torch.where(inside, self._costs[at], UNSET)
            best = _least(costs)[:, None]
            found.append(at.gather(1, best)[:, 0])
            there.append(costs.gather(1, best)[:, 0] < UNSET)
        return torch.stack(found, 1), torch.stack(there, 1)

    def _update(self, at: Tensor, iteration: int) -> None:
        x, y, rays = self._pixels(at)
        patches = self._patches(x, y)
        found, there = self._candidates(x, y)
        # its own plane comes first: it stays where another costs the same
        planes = torch.cat([self._planes[at][:, None], self._planes[found]], 1)
        valid = torch.cat([torch.ones_like(there[:, :1]), there & self._possible(planes[:, 1:], rays[:, None])], 1)
        planes = torch.where(valid[..., None], planes, planes[:, :1])
        costs = self._view_costs(patches, planes, rays, x, y, True)
        weights = self._weights(costs, valid, x, y, iteration)
        none = weights.amax(1, keepdim=True) == 0
        weights = torch.where(none, _best_views(costs[:, 0]), weights)
        totals = torch.where(valid, self._total(patches, planes, rays, at, costs, weights), torch.inf)
        best = _least(totals)
        least = totals.gather(1, best[:, None])[:, 0]
        plane = planes.gather(1, best[:, None, None].expand(-1, 1, 4))[:, 0]
        plane, least = self._refined(patches, plane, least, rays, x, y, at, iteration, weights)
        self._planes[at], self._costs[at], self._votes[at] = plane, least, weights > 0

    def _weights(self, costs: Tensor, valid: Tensor, x: Tensor, y: Tensor, iteration: int) -> Tensor:
        """[P, V] joint view selection: views in which several planes match, and which the neighbours chose."""
        good = 0.8 * np.exp(-(iteration**2) / 90.0)
        misses = (valid[..., None] & (costs > 1.2)).sum(1)
        match = valid[..., None] & (costs < good)
        count = match.sum(1)
        mean = torch.where(match, torch.exp(-(costs**2) / 0.18), 0).sum(1) / count.clamp_min(1)
        weights = torch.where(count > 2, mean, float(np.exp(-good * good / 0.32) * 0.5))
        weights = torch.where(misses < 3, weights, 0) * self._neighbours_choice(x, y)
        return torch.where(weights < 0.2 * weights.amax(1, keepdim=True), 0, weights)

    def _neighbours_choice(self, x: Tensor, y: Tensor) -> Tensor:
        dx, dy = torch.tensor(_ALONG, device=x.device).T
        column, row = x[:, None] + dx, y[:, None] + dy
        inside = (column >= 0) & (row >= 0) & (column < self._picture.width) & (row < self._picture.height)
        at = torch.where(inside, row * self._picture.width + column, 0)
        return torch.where(inside[..., None] & self._votes[at], 0.9, 0.1).sum(1)

    def _refined(
        self,
        patches: Patches,
        plane: Tensor,
        least: Tensor,
        rays: Tensor,
        x: Tensor,
        y: Tensor,
        at: Tensor,
        iteration: int,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Random changes of depth, normal and both; a plane out of nothing while exploring."""
        random, shrink = Random(self._set.seed, iteration + 1, at), 0.5**iteration
        depth_step, normal_step = self._set.depth_step * shrink, self._set.normal_step * shrink
        steps = [(depth_step, 0.0), (0.0, normal_step), (depth_step, normal_step)]
        steps.append((0.2 * depth_step, 0.2 * normal_step))
        for number in range(len(steps) + self._set.explore):
            last = number == len(steps)
            trial = self._random_planes(random, rays) if last else _changed(plane, rays, random, *steps[number])
            costs = self._view_costs(patches, trial[:, None], rays, x, y, True)
            cost = self._total(patches, trial[:, None], rays, at, costs, weights)[:, 0]
            better = self._possible(trial, rays) & (cost < least)
            plane, least = torch.where(better[:, None], trial, plane), torch.where(better, cost, least)
        return plane, least


def _chunks(pixels: Tensor) -> Iterator[Tensor]:
    return (pixels[k : k + CHUNK] for k in range(0, len(pixels), CHUNK))


def _areas(explore: bool) -> list[list[tuple[int, int]]]:
    """Offsets of the areas that planes come from: four wedges beside the pixel, four arms further out."""
    steps = [(s + 1, i) for s in range(4) for i in ((-s, s) if s else (0,))]
    wedges = [[(a * s + b * i, b * s + a * i) for s, i in steps] for a, b in _ALONG]
    arms = [[(a * s, b * s) for s in range(3, _FAR_PX + 1, 2)] for a, b in _ALONG]
    return wedges + arms if explore else wedges


def _facing(n: Tensor, rays: Tensor) -> Tensor:
    """[P, 3] of unit length and towards the camera."""
    scale = torch.rsqrt((n * n).sum(1) + 1e-20)
    return n * torch.where((n * rays).sum(1) > 0, -scale, scale)[:, None]


def _changed(planes: Tensor, rays: Tensor, random: Random, depth_step: float, normal_step: float) -> Tensor:
    z = depth_at(planes, rays) * (1.0 + depth_step * random.symmetric())
    n = planes[:, :3]
    if normal_step > 0:
        n = _facing(n + normal_step * torch.stack([random.symmetric() for _ in range(3)], 1), rays)
    return torch.cat([n, -(z * (n * rays).sum(1))[:, None]], 1)


def _least(values: Tensor) -> Tensor:
    """[P] the first index of the least of values [P, N]: planes that leave the picture all cost the same."""
    index = torch.arange(values.shape[1], device=values.device)
    return torch.where(values == values.amin(1, keepdim=True), index, values.shape[1]).amin(1)


def _best_views(costs: Tensor) -> Tensor:
    """[P, V] 1 for the two views of least cost: where nothing else is known."""
    weights = torch.zeros_like(costs)
    for _ in range(min(2, costs.shape[1])):
        best = _least(torch.where(weights > 0, torch.inf, costs))
        weights.scatter_(1, best[:, None], 1.0)
    return weights


def _mean(costs: Tensor, weights: Tensor) -> Tensor:
    """[P, C] of costs [P, C, V] by weights [P, V]; the worst cost where nothing weighs anything."""
    norm = weights.sum(1)[:, None]
    mean = (costs * weights[:, None]).sum(-1) / norm.clamp_min(1e-20)
    return torch.where(norm > 0, mean, WORST_COST)
