"""Large-scale differences between photos that one gain cannot take out: highlights, tone mapping, shadows that move.

The texture takes fine detail from the photo that shows it best, and the level around it from all photos that see it: a
blend in two bands (Burt and Adelson 1983), with the mesh for the pyramid. Seams between photos vanish, and the texture
is the mean of what a surface shows rather than what one photo happened to see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import Mesh
from tasks.surface.exposure import correction
from tasks.surface.weights import VertexViews

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Float32Array = npt.NDArray[np.float32]

ROUNDS = 24
"""Of averaging over neighbours: the level is that of a surrounding of about the root of it, in edges of the mesh."""
FLATTER = 0.5
"""Exponent of the photos' weights: all count for the level, also those that see the place at an angle."""
OUTLIER = 40.0
"""Steps of sRGB from the mean at which a photo's weight has fallen to 1 / e."""
MOST = 60.0
"""Steps of sRGB by which a photo is moved at most."""


class Levels:
    """What the photos show of each vertex on average, and how far each photo is from that."""

    def __init__(self, mesh: Mesh, samples: VertexViews, gains: npt.NDArray[np.float64], best: Float32Array) -> None:
        """Args: gains: [C, 3] logarithms, as of `log_gains`; best: [V, C] weights of the photos that give detail."""
        self._samples, self._gains = samples, gains
        self._spread = _averaging(mesh)
        weight = np.asarray(np.where(samples.safe, samples.weight, 0.0) ** FLATTER, np.float32)
        for _ in range(2):
            mean = self._mean_of(weight)
            weight = self._without_outliers(weight, mean)
        mean = self._mean_of(weight)
        # the detail's photos keep their brightness on the whole: many overexposed close-ups must not brighten it
        taken = np.where(samples.safe, best, 0.0)
        drift = sum(taken[:, c] @ (mean - self._corrected(c)) for c in range(len(gains))) / max(taken.sum(), 1e-12)
        self._mean = mean - drift

    def offset(self, c: int) -> Float32Array:
        """[V, 3] sRGB steps to add to photo `c`, smooth over the surface; 0 far from what it sees clearly."""
        seen = (self._samples.safe[:, c] & (self._samples.weight[:, c] > 0)).astype(np.float32)[:, None]
        moved = np.concatenate([seen * (self._mean - self._corrected(c)), seen], 1)
        for _ in range(ROUNDS):
            moved = self._spread @ moved
        return np.asarray(np.clip(moved[:, :3] / np.maximum(moved[:, 3:], 1e-3), -MOST, MOST), np.float32)

    def _mean_of(self, weight: Float32Array) -> Float32Array:
        """[V, 3] of what all photos show, by weights [V, C]."""
        total = np.zeros((len(weight), 3), np.float32)
        for c in range(weight.shape[1]):
            total += weight[:, c, None] * self._corrected(c)
        return np.asarray(total / np.maximum(weight.sum(1), 1e-12)[:, None], np.float32)

    def _without_outliers(self, weight: Float32Array, mean: Float32Array) -> Float32Array:
        """The weights [V, C], less where a photo is far from the mean: a passer-by, a highlight."""
        far = np.stack([np.abs(self._corrected(c) - mean).max(1) for c in range(weight.shape[1])], 1)
        return np.asarray(weight * (np.exp(-((far / OUTLIER) ** 2)) + 1e-3), np.float32)

    def _corrected(self, c: int) -> Float32Array:
        """[V, 3] what photo `c` shows at the vertices, with its exposure taken out."""
        table, _ = correction(self._gains[c])
        return np.asarray(table[self._samples.rgb[:, c], [0, 1, 2]], np.float32)


def _averaging(mesh: Mesh) -> csr_matrix:
    """[V, V] sparse: the mean of each vertex and its neighbours."""
    from scipy.sparse import coo_matrix, diags, identity

    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    count = len(mesh.vertices)
    near = coo_matrix((np.ones(len(both), np.float32), (both[:, 0], both[:, 1])), shape=(count, count)).tocsr()
    near = near + identity(count, np.float32, format="csr")
    return (diags(1.0 / np.asarray(near.sum(1)).ravel()) @ near).astype(np.float32).tocsr()
