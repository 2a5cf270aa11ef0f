"""Texels beside the charts: filled with the colours of the charts around, so that no seam shows at any size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import ByteArray, IntArray

Float32Array = npt.NDArray[np.float32]


def dilate(texture: ByteArray, pixel: IntArray) -> ByteArray:
    """The texture [H, W] or [H, W, K] with every texel but those at `pixel` filled from the nearest ones of these.

    Pull and push (Gortler et al. 1996): each level of a pyramid averages what is known, and what is not known comes
    from the level above. So mipmaps and smaller copies of the texture are right as well.
    """
    known = np.zeros(texture.shape[:2], bool)
    known.ravel()[pixel] = True
    if known.all() or not known.any():
        return texture
    filled = texture.copy()
    missing = ~known
    coarse = _coarser(texture.reshape(*texture.shape[:2], -1).astype(np.float32), known)
    rows, columns = np.nonzero(missing)
    value = _filled(*coarse)[rows // 2, columns // 2]
    filled[rows, columns] = (value + 0.5).astype(np.uint8).reshape(-1, *texture.shape[2:])
    return filled


def _coarser(values: Float32Array, known: npt.NDArray[np.bool_]) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Half the size: means of what is known of each four."""
    height, width = known.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
        known = np.pad(known, ((0, height % 2), (0, width % 2)))
    weight = known.astype(np.float32)
    total = np.zeros((known.shape[0] // 2, known.shape[1] // 2, values.shape[2]), np.float32)
    count = np.zeros(total.shape[:2], np.float32)
    for row in (0, 1):
        for column in (0, 1):
            part = weight[row::2, column::2]
            total += values[row::2, column::2] * part[..., None]
            count += part
    mean = np.asarray(total / np.maximum(count, 1.0)[..., None], dtype=np.float32)
    return mean, count > 0


def _filled(values: Float32Array, known: npt.NDArray[np.bool_]) -> Float32Array:
    """All values, those that are not known from the coarser levels."""
    if known.all() or min(known.shape) < 2:
        return values
    above = _filled(*_coarser(values, known))
    rows, columns = np.nonzero(~known)
    values[rows, columns] = above[rows // 2, columns // 2]
    return values
