"""Volume rendering of packed samples (Max 1995; NeRF, Mildenhall et al. 2020, eq. 3) in Triton.

The samples of ray r are those from offsets[r] to offsets[r + 1], front to back. A warp handles 32 rays, one in each
lane; running sums are built from differences, so nothing cancels and float32 is enough.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.fields.kernels.gpu_launch import OPTIONS, block

RAYS = 32
"""Rays of one program, a warp."""


@triton.jit
def _opacity(tau):
    """1 - exp(-tau), by its series where the difference would cancel."""
    series = tau * (1 - tau / 2 * (1 - tau / 3 * (1 - tau / 4 * (1 - tau / 5 * (1 - tau / 6)))))
    return tl.where(tl.abs(tau) < 0.125, series, 1.0 - tl.exp(-tau))


@triton.jit
def _load_ray(offsets, rays, BLOCK: tl.constexpr):
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = ray < rays
    return ray, inside, tl.load(offsets + ray, inside, 0), tl.load(offsets + ray + 1, inside, 0)


@triton.jit
def _composite(density, rgb, t, offsets, light, through, spread, step, rays, count, BLOCK: tl.constexpr):
    ray, inside, begin, end = _load_ray(offsets, rays, BLOCK)
    red = tl.zeros((BLOCK,), tl.float32)
    green = tl.zeros((BLOCK,), tl.float32)
    blue = tl.zeros((BLOCK,), tl.float32)
    pairs = tl.zeros((BLOCK,), tl.float32)
    depth = tl.zeros((BLOCK,), tl.float32)  # optical depth in front of the sample
    weight_before = tl.zeros((BLOCK,), tl.float32)
    apart = tl.zeros((BLOCK,), tl.float32)  # sum over samples in front of w_j (t_i - t_j)
    at_before = tl.zeros((BLOCK,), tl.float32)
    for number in range(tl.max(end - begin, 0).to(tl.int32)):
        i = begin + number
        live = i < end
        tau = tl.load(density + i, live, 0.0) * step
        weight = tl.exp(-depth) * _opacity(tau)
        red += weight * tl.load(rgb + i, live, 0.0)
        green += weight * tl.load(rgb + count + i, live, 0.0)
        blue += weight * tl.load(rgb + count + count + i, live, 0.0)
        at = tl.load(t + i, live, 0.0)
        apart += weight_before * (at - at_before)
        pairs += weight * (2.0 * apart + weight * (step / 3.0))
        depth += tau
        weight_before += weight
        at_before = at
    tl.store(light + 3 * ray, red, inside)
    tl.store(light + 3 * ray + 1, green, inside)
    tl.store(light + 3 * ray + 2, blue, inside)
    tl.store(through + ray, tl.exp(-depth), inside)
    tl.store(spread + ray, pairs, inside)


@triton.jit
def _composite_backward(
    density,
    rgb,
    t,
    offsets,
    d_light,
    d_through,
    d_spread,
    d_density,
    d_rgb,
    step,
    rays,
    count,
    SPREAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Front to back for what lies before each sample, kept where the results will go; then back to front."""
    ray, inside, begin, end = _load_ray(offsets, rays, BLOCK)
    longest = tl.max(end - begin, 0).to(tl.int32)
    depth = tl.zeros((BLOCK,), tl.float32)
    weight_before = tl.zeros((BLOCK,), tl.float32)
    apart = tl.zeros((BLOCK,), tl.float32)
    at_before = tl.zeros((BLOCK,), tl.float32)
    for number in range(longest):
        i = begin + number
        live = i < end
        tau = tl.load(density + i, live, 0.0) * step
        tl.store(d_density + i, depth, live)
        if SPREAD:
            at = tl.load(t + i, live, 0.0)
            apart += weight_before * (at - at_before)
            tl.store(d_rgb + i, apart, live)
            weight_before += tl.exp(-depth) * _opacity(tau)
            at_before = at
        depth += tau
    tl.debug_barrier()

    d_red = tl.load(d_light + 3 * ray, inside, 0.0)
    d_green = tl.load(d_light + 3 * ray + 1, inside, 0.0)
    d_blue = tl.load(d_light + 3 * ray + 2, inside, 0.0)
    later = tl.load(d_through + ray, inside, 0.0) * tl.exp(-depth)  # what all behind the sample loses with its light
    if SPREAD:
        d_pairs = tl.load(d_spread + ray, inside, 0.0)
    weight_behind = tl.zeros((BLOCK,), tl.float32)
    apart_behind = tl.zeros((BLOCK,), tl.float32)
    at_behind = tl.zeros((BLOCK,), tl.float32)
    for number in range(longest):
        i = end - 1 - number
        live = i >= begin
        tau = tl.load(density + i, live, 0.0) * step
        front = tl.exp(-tl.load(d_density + i, live, 0.0))
        weight = front * _opacity(tau)
        slope = d_red * tl.load(rgb + i, live, 0.0)
        slope += d_green * tl.load(rgb + count + i, live, 0.0)
        slope += d_blue * tl.load(rgb + count + count + i, live, 0.0)
        if SPREAD:
            at = tl.load(t + i, live, 0.0)
            apart_behind += weight_behind * (at_behind - at)
            apart_before = tl.load(d_rgb + i, live, 0.0)
            slope += d_pairs * (2.0 * (apart_before + apart_behind) + weight * (step * 2.0 / 3.0))
            weight_behind += weight
            at_behind = at
        tl.store(d_rgb + i, d_red * weight, live)
        tl.store(d_rgb + count + i, d_green * weight, live)
        tl.store(d_rgb + count + count + i, d_blue * weight, live)
        tl.store(d_density + i, (slope * front * tl.exp(-tau) - later) * step, live)
        later += slope * weight


@triton.jit
def _visible(density, offsets, counts, step, threshold, rays, BLOCK: tl.constexpr):
    ray, inside, begin, end = _load_ray(offsets, rays, BLOCK)
    i = begin
    depth = tl.zeros((BLOCK,), tl.float32)
    live = (i < end) & (tl.exp(-depth) > threshold)
    while tl.max(live.to(tl.int32), 0) > 0:
        depth += tl.load(density + i, live, 0.0) * step
        i += live.to(tl.int64)
        live = live & (i < end) & (tl.exp(-depth) > threshold)
    tl.store(counts + ray, i - begin, inside)


def composite_forward(
    density: Tensor, rgb: Tensor, t: Tensor, offsets: Tensor, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What rays see: w_i = exp(-sum_{j < i} density_j step) (1 - exp(-density_i step)).

    Args:
        density: [N] in 1 / unit.
        rgb: [3, N].
        t: [N] distances along the rays.
        offsets: int64 [R + 1].
        step: length of each sample in the same unit.

    Returns:
        light [R, 3] = sum w rgb, through [R] = what passes all samples, and spread [R], the distortion of
        Mip-NeRF 360 (Barron et al. 2022, eq. 15): sum_ij w_i w_j |t_i - t_j| + step / 3 sum w_i^2.
    """
    rays = len(offsets) - 1
    light = torch.empty(rays, 3, device=density.device)
    through, spread = torch.empty(2, rays, device=density.device)
    if rays:
        size = block(RAYS)
        grid = (triton.cdiv(rays, size),)
        given = (density, rgb, t, offsets)
        _composite[grid](*given, light, through, spread, step, rays, len(density), BLOCK=size, num_warps=1, **OPTIONS)
    return light, through, spread


def composite_backward(
    density: Tensor,
    rgb: Tensor,
    t: Tensor,
    offsets: Tensor,
    step: float,
    d_light: Tensor,
    d_through: Tensor,
    d_spread: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gradient of `composite_forward`: d_density [N] and d_rgb [3, N].

    Args:
        d_light: [R, 3].
        d_through: [R].
        d_spread: [R], or None where the spread is not used.
    """
    rays, count = len(offsets) - 1, len(density)
    d_density, d_rgb = torch.empty_like(density), torch.empty_like(rgb)
    if count:
        size = block(RAYS)
        _composite_backward[(triton.cdiv(rays, size),)](
            density,
            rgb,
            t,
            offsets,
            d_light,
            d_through,
            d_through if d_spread is None else d_spread,
            d_density,
            d_rgb,
            step,
            rays,
            count,
            SPREAD=d_spread is not None,
            BLOCK=size,
            num_warps=1,
            **OPTIONS,
        )
    return d_density, d_rgb


def visible_counts(density: Tensor, offsets: Tensor, step: float, threshold: float) -> Tensor:
    """How many leading samples of each ray are seen through more than `threshold` of what lies before them.

    Args:
        density: [N] in 1 / unit, not negative.
        offsets: int64 [R + 1].
        step: length of each sample.

    Returns:
        int64 [R].
    """
    rays = len(offsets) - 1
    counts = torch.empty(rays, dtype=torch.int64, device=density.device)
    if rays:
        size = block(RAYS)
        grid = (triton.cdiv(rays, size),)
        _visible[grid](density, offsets, counts, step, threshold, rays, BLOCK=size, num_warps=1, **OPTIONS)
    return counts
