"""Solid noise: smooth random functions of a point in space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_LATTICE = 32
_BLOCK = 1 << 15
"""Points at a time: the temporaries stay in the cache."""


class SolidNoise:
    """A family of smooth random functions of space, fixed by a seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._lattice: Float32Array = rng.uniform(-1.0, 1.0, (_LATTICE,) * 3).astype(np.float32)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        self._turn: FloatArray = turn
        self._shift: FloatArray = rng.uniform(0, _LATTICE, (64, 3))

    def at(self, points: FloatArray, wavelength: float, which: int = 0) -> Float32Array:
        """[N] values in [-1, 1] at points [N, 3]; features of about `wavelength` (unit of the points).

        Args:
            which: number of the function, 0 to 63; different numbers are independent for every purpose here.
        """
        from scipy.ndimage import map_coordinates

        # turned before the lookup, so that the lattice is nowhere parallel to the object
        turn = ((self._turn if which % 2 else self._turn.T) / wavelength).astype(np.float32)
        shift = self._shift[which, :, None].astype(np.float32)
        values = np.empty(len(points), np.float32)
        for start in range(0, len(points), _BLOCK):
            part = slice(start, start + _BLOCK)
            place = turn @ points[part].T.astype(np.float32) + shift
            base = np.floor(place)
            fraction = place - base
            base += fraction * fraction * (3.0 - 2.0 * fraction)
            map_coordinates(self._lattice, base, output=values[part], order=1, mode="grid-wrap", prefilter=False)
        return values

    def octaves(self, points: FloatArray, longest: float, count: int, gain: float, which: int = 0) -> Float32Array:
        """[N] sum of `count` functions, each of half the wavelength and `gain` times the height of the one before."""
        total = np.zeros(len(points), np.float32)
        for k in range(count):
            total += gain**k * self.at(points, longest / 2.0**k * 0.97**k, (which + 7 * k) % 64)
        return total
