"""Volume rendering of packed samples (Max 1995; NeRF, Mildenhall et al. 2020, eq. 3).

Packed: the samples of all rays in one list, ray by ray, front to back; `ray` [N] says whose each is and never falls.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _first_samples(ray: Tensor, rays: int) -> Tensor:
    """[rays] number of the first sample of each ray (of the next ray's where a ray has none)."""
    counts = torch.bincount(ray, minlength=rays)
    return counts.cumsum(0) - counts


def _before(values: Tensor, ray: Tensor, first: Tensor) -> Tensor:
    """[N] sum of the values [N] of the samples of the same ray in front of each; double precision."""
    total = torch.cumsum(values.double(), 0) - values
    return total - total[first[ray]]


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tau: Tensor, ray: Tensor, rays: int) -> tuple[Tensor, Tensor]:
        first = _first_samples(ray, rays)
        transmittance = torch.exp(-_before(tau, ray, first)).to(tau.dtype)
        weights = transmittance * -torch.expm1(-tau)
        ctx.save_for_backward(tau, ray, first, transmittance, weights)
        ctx.mark_non_differentiable(transmittance)
        return weights, transmittance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_weights: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        tau, ray, first, transmittance, weights = ctx.saved_tensors
        product = (d_weights * weights).double()
        upto = _before(product, ray, first) + product
        whole = torch.zeros(len(first), dtype=product.dtype, device=product.device).index_add_(0, ray, product)
        d_tau = d_weights * transmittance * torch.exp(-tau) - (whole[ray] - upto).to(tau.dtype)
        return d_tau, None, None


def render_weights(density: Tensor, delta: Tensor | float, ray: Tensor, rays: int) -> tuple[Tensor, Tensor]:
    """The share of each sample in its ray's colour: w_k = T_k (1 - exp(-density_k delta_k)).

    Differentiable once, through the weights, by density and delta; the transmittance is not.

    Args:
        density: [N] in 1 / unit.
        delta: [N] or one length in the same unit.
        ray: [N] int64, not falling.
        rays: how many rays there are, those without samples included.

    Returns:
        weights [N] and the transmittance [N] in front of each sample.
    """
    return _Weights.apply(density * delta, ray, rays)  # type: ignore[no-any-return, no-untyped-call]


def sum_along_rays(values: Tensor, ray: Tensor, rays: int) -> Tensor:
    """[rays, C] sums of the values [N, C] of each ray's samples."""
    return values.new_zeros(rays, values.shape[1]).index_add_(0, ray, values)


def distortion(weights: Tensor, t: Tensor, delta: float, ray: Tensor, rays: int) -> Tensor:
    """[rays] distortion of each ray (Mip-NeRF 360, eq. 15): weight spread along the ray costs, a single spike is free.

    sum_ij w_i w_j |t_i - t_j| + 1/3 sum_i w_i^2 delta, in linear time by running sums (DVGO v2, section 3).

    Args:
        weights: [N].
        t: [N] distances along the rays; no gradient.
        delta: the samples' length.
    """
    w, s = weights.double(), t.double()
    first = _first_samples(ray, rays)
    pairs = 2.0 * w * (s * _before(w, ray, first) - _before(w * s, ray, first))
    own = w * w * (delta / 3.0)
    return sum_along_rays((pairs + own)[:, None], ray, rays)[:, 0].to(weights.dtype)
