"""The definition of the patch cost in plain numpy, float64: what the kernel is tested against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.stereo.kernel import WORST_COST, Search, Source
from tasks.stereo.photo import Level

FloatArray = npt.NDArray[np.float64]
OFFSETS = np.arange(-5, 6, 2)
"""11 x 11 window, every second pixel."""
SPATIAL_SIGMA = 5.0


def patch_cost(reference: Level, source: Source, search: Search, pixel: tuple[int, int], plane: FloatArray) -> float:
    """1 - NCC in [0, 2] of the window around a pixel (column, row) and its picture in the source by a plane.

    NCC is weighted bilaterally: exp(-offset^2 / (2 * 5^2) - |grey - centre's grey| / colour_sigma); samples outside the
    reference's picture or mask weigh nothing. The source is sampled bilinearly where the plane [4] (n, d with
    n . X + d = 0 in camera axes of the reference) takes each sample. 2 where the window leaves the source's picture, or
    either variance is below `min_variance`. Schoenberger et al. 2016, equations 4 and 5; the window is ACMM's.
    """
    grey = (reference.quads & 255).astype(np.float64)
    height, width = grey.shape
    dy, dx = (each.ravel() for each in np.meshgrid(OFFSETS, OFFSETS, indexing="ij"))
    column, row = pixel[0] + dx, pixel[1] + dy
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    c, r = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    if reference.mask is not None:
        inside &= reference.mask[r, c] > 0
    values = grey[r, c]
    difference = np.abs(values - grey[pixel[1], pixel[0]])
    weight = inside * np.exp(-(dx**2 + dy**2) / (2 * SPATIAL_SIGMA**2) - difference / search.colour_sigma)
    centres: FloatArray = np.stack([column, row], 1).astype(np.float64) + 0.5
    uv = _mapped(reference, source, plane, centres)
    size = source.level.camera
    limits = np.array([size.width - 0.5, size.height - 0.5])
    if weight.sum() == 0 or not np.all((uv >= 0.5) & (uv <= limits)):
        return WORST_COST
    weight /= weight.sum()
    sampled = _bilinear((source.level.quads & 255).astype(np.float64), uv - 0.5)
    off, other = values - weight @ values, sampled - weight @ sampled
    variances = weight @ off**2, weight @ other**2
    if min(variances) < search.min_variance:
        return WORST_COST
    return float(1.0 - np.clip(weight @ (off * other) / np.sqrt(variances[0] * variances[1]), -1.0, 1.0))


def _mapped(reference: Level, source: Source, plane: FloatArray, uv: FloatArray) -> FloatArray:
    """[N, 2] pixels of the source by the plane; NaN where a point lies behind the source."""
    rays = np.concatenate([uv, np.ones((len(uv), 1))], 1) @ np.linalg.inv(reference.camera.K).T
    points = rays * (-plane[3] / (rays @ plane[:3]))[:, None]
    seen = points @ source.source_from_reference[:3, :3].T + source.source_from_reference[:3, 3]
    mapped = seen @ source.level.camera.K.T
    mapped[mapped[:, 2] <= 0] = np.nan
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def _bilinear(grey: FloatArray, index: FloatArray) -> FloatArray:
    """Grey values at array indices [N, 2] (column, row), inside."""
    height, width = grey.shape
    low = np.floor(index).astype(int)
    fu, fv = (index - low).T
    c0, r0 = low.T
    c1, r1 = np.minimum(c0 + 1, width - 1), np.minimum(r0 + 1, height - 1)
    upper = grey[r0, c0] * (1 - fu) + grey[r0, c1] * fu
    lower = grey[r1, c0] * (1 - fu) + grey[r1, c1] * fu
    return np.asarray(upper * (1 - fv) + lower * fv)
