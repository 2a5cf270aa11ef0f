"""Random numbers of pixels in torch: a hash of what names them, as in `csrc/random.h`."""

from __future__ import annotations

import torch
from torch import Tensor


class Random:
    """Random numbers of pixels: a hash of what names them (SplitMix64, Steele et al. 2014), as in `csrc/random.h`."""

    def __init__(self, seed: int, round_: int, pixels: Tensor) -> None:
        start = torch.tensor(_signed(seed * 0x9E3779B97F4A7C15 + round_), device=pixels.device)
        self._state = _mix(start) ^ _mix(pixels * _signed(0xC2B2AE3D27D4EB4F) + _signed(0x165667B19E3779F9))

    def uniform(self) -> Tensor:
        """[P] in [0, 1)."""
        self._state = self._state + _signed(0x9E3779B97F4A7C15)
        return _shifted(_mix(self._state), 40).float() * (1.0 / (1 << 24))

    def symmetric(self) -> Tensor:
        """[P] in [-1, 1)."""
        return 2.0 * self.uniform() - 1.0


def _signed(value: int) -> int:
    """The 64 bits of an unsigned number as a signed one."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shifted(z: Tensor, bits: int) -> Tensor:
    return z >> bits & (1 << 64 - bits) - 1


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)
