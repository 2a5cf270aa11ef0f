"""The paint of a mesh, kept on a small grid of colours in each face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import Mesh
from tasks.sample.colour import to_linear
from tasks.sample.noise import Float32Array
from tasks.sample.paint import solid_colour


@dataclass(frozen=True)
class FacePaint:
    """Colours on a small triangular grid in each face: no atlas, no seams (Yuksel et al., "Mesh colors", 2010)."""

    linear: Float32Array
    """[F * S, 3] linear colour of each sample, S = (n + 1)(n + 2) / 2 for each face."""
    slot: npt.NDArray[np.int64]
    """[n + 1, n + 1] which of a face's samples stands at (a n, b n)."""

    @classmethod
    def bake(cls, mesh: Mesh, seed: int, detail: int) -> FacePaint:
        """Ask the solid texture at every sample of every face."""
        a, b = (grid.ravel() for grid in np.mgrid[0 : detail + 1, 0 : detail + 1])
        kept = np.flatnonzero(a + b <= detail)
        slot = np.zeros((detail + 1, detail + 1), np.int64)
        slot[a[kept], b[kept]] = np.arange(len(kept))
        over = np.flatnonzero(a + b > detail)
        slot[a[over], b[over]] = slot[a[over], detail - a[over]]
        weights = np.stack([detail - a[kept] - b[kept], a[kept], b[kept]], 1) / detail
        points = np.einsum("sk,fkc->fsc", weights, mesh.triangles).reshape(-1, 3)
        parts = [to_linear(solid_colour(points[k : k + 400_000], seed)) for k in range(0, len(points), 400_000)]
        return cls(np.concatenate(parts).astype(np.float32), slot)

    def lookup(self, face: npt.NDArray[np.int64], bary: Float32Array) -> Float32Array:
        """[N, 3] linear colour of the sample nearest to each hit."""
        n = len(self.slot) - 1
        a = np.clip(np.rint(bary[:, 0] * n).astype(np.int64), 0, n)
        b = np.clip(np.rint(bary[:, 1] * n).astype(np.int64), 0, n)
        samples = (n + 1) * (n + 2) // 2
        return np.asarray(self.linear[face * samples + self.slot[a, b]])
