"""Hierarchical sampling of rays (NeRF, Mildenhall et al. 2020, section 5.2): S samples on each of R rays, dense."""

from __future__ import annotations

import torch
from torch import Tensor

PDF_FLOOR = 1e-5
"""Added to every weight: nothing is never sampled, and empty rays are sampled evenly."""


def stratified(t_in: Tensor, t_out: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """One distance in each of `count` equal parts of [t_in, t_out] (eq. 2).

    Args:
        t_in, t_out: [R].
        generator: of the place within a part; its middle without one.

    Returns:
        [R, count], rising.
    """
    places = _places(t_in, count, generator)
    return t_in[:, None] + (t_out - t_in)[:, None] * places


def resample(t: Tensor, weights: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Distances drawn from the distribution of the light along each ray, by inverse transform (section 5.2).

    The distribution is constant between the middles of neighbouring samples. No gradient passes.

    Args:
        t: [R, S] rising distances, S >= 3.
        weights: [R, S] the samples' shares in the ray's colour.
        generator: of the quantiles; `count` even ones without one.

    Returns:
        [R, count], rising.
    """
    edges = 0.5 * (t[:, 1:] + t[:, :-1])
    share = weights.detach()[:, 1:-1] + PDF_FLOOR
    cdf = torch.cumsum(share / share.sum(1, keepdim=True), 1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], 1)
    quantile = _places(t[:, 0], count, generator)
    upper = torch.searchsorted(cdf, quantile, right=True).clamp(1, cdf.shape[1] - 1)
    low, high = cdf.gather(1, upper - 1), cdf.gather(1, upper)
    place = ((quantile - low) / (high - low).clamp(min=1e-12)).clamp(0.0, 1.0)
    start, end = edges.gather(1, upper - 1), edges.gather(1, upper)
    return start + place * (end - start)


def integrate(density: Tensor, rgb: Tensor, t: Tensor, t_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Volume rendering (eq. 3). Each sample stands for the stretch up to the next, the last for that up to `t_out`.

    Args:
        density: [R, S] in 1 / unit.
        rgb: [R, S, 3].
        t: [R, S] rising distances.
        t_out: [R] where the rays end.

    Returns:
        light [R, 3] (premultiplied), transmittance [R] and the samples' shares (weights) [R, S].
    """
    delta = torch.cat([t[:, 1:], t_out[:, None]], 1) - t
    tau = density * delta
    total = tau.cumsum(1)
    weights = torch.exp(tau - total) * -torch.expm1(-tau)
    return (weights[..., None] * rgb).sum(1), torch.exp(-total[:, -1]), weights


def _places(like: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """[R, count] a place in each of `count` equal parts of [0, 1], for the R rays of `like` [R]."""
    start = torch.arange(count, device=like.device, dtype=like.dtype)
    if generator is None:
        return ((start + 0.5) / count).expand(len(like), count).contiguous()
    return (start + torch.rand(len(like), count, generator=generator, device=like.device, dtype=like.dtype)) / count
