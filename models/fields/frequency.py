"""Positional encoding (NeRF, Mildenhall et al. 2020, eq. 4): coordinates as sines and cosines of rising frequency."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def frequency_width(channels: int, frequencies: int) -> int:
    """Number of features that `frequency_encode` makes of `channels` coordinates."""
    return channels * (2 * frequencies + 1)


def frequency_encode(x: Tensor, frequencies: int) -> Tensor:
    """The coordinates, sin(2^k pi x) and cos(2^k pi x) for k = 0 .. frequencies - 1.

    The coordinates themselves are in front, as in the authors' program: the waves alone cannot tell -1 from 1.

    Args:
        x: [N, C], in [-1, 1] for the lowest wave to fit once.

    Returns:
        [N, C (2 frequencies + 1)]: x, then all sines (coordinate by coordinate, k rising), then all cosines.
    """
    scales = torch.pi * torch.exp2(torch.arange(frequencies, device=x.device, dtype=x.dtype))
    waves = (x[:, :, None] * scales).flatten(1)
    return torch.cat([x, torch.sin(waves), torch.cos(waves)], 1)


def frequencies_for(samples: int) -> int:
    """The number of frequencies whose fastest wave has at least four of `samples` even samples of [-1, 1] a period."""
    return max(1, int(math.log2(max(samples, 1))) - 1)
