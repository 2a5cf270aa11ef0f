"""Outlines moved to where the colours change: near an outline, every pixel goes to the side whose colours it has.

Colours inside and outside are Gaussians of the surroundings, weighted by what is known so far and estimated anew a few
times (local colour models as in Bai et al. 2009, "Video SnapCut"). Where both sides look alike the outline stays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.silhouettes.hull import Mask

Array = npt.NDArray[np.float32]

SPREAD_PX = 4.0
"""How far an outline may well lie beside the object's: the standard deviation."""
REACH = 3.0
"""Standard deviations beyond which a pixel stays what it is."""
WINDOW_PX = 10
"""Half the side of the window whose colours count."""
ROUNDS = 5
MOST_EVIDENCE = 6.0
"""Bound on the logarithm of how much likelier one side is by colour."""
_DARK = 16.0
"""Added to sRGB values before the logarithm: below it there is more noise than colour."""
_VARIANCE = 1.2e-3
"""Of noise, in logarithms: two sides that differ by less look alike."""
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def log_colours(picture: npt.NDArray[np.uint8]) -> Array:
    """[H, W, 3] logarithms of a photo's colours, tame in the dark: an exposure adds the same everywhere."""
    return np.asarray(np.log(picture.astype(np.float32) + np.float32(_DARK)), np.float32)


def follow_edges(picture: npt.NDArray[np.uint8], mask: Mask, spread_px: float = SPREAD_PX) -> Mask:
    """The mask [H, W] with its outline at the edges of the photo [H, W, 3] near it."""
    box = _box(mask, int(REACH * spread_px) + WINDOW_PX + 1)
    if box is None:
        return mask
    inside = mask[box]
    prior, near = _prior(inside, spread_px)
    colours = log_colours(picture[box])
    colours -= colours.mean((0, 1))
    products = np.stack([colours[..., a] * colours[..., b] for a, b in _PAIRS], -1)
    features = np.concatenate([np.ones_like(colours[..., :1]), colours, products], -1)
    chance = _logistic(prior)
    for _ in range(ROUNDS):
        object_, rest = (_log_likelihood(features, weight, near) for weight in (chance, 1.0 - chance))
        evidence = np.zeros_like(prior)
        evidence[near] = np.clip(object_ - rest, -MOST_EVIDENCE, MOST_EVIDENCE)
        chance = np.where(near, _logistic(prior + _smoothed(evidence)), inside).astype(np.float32)
    result = mask.copy()
    result[box] = chance > 0.5
    return result


def _box(mask: Mask, margin: int) -> tuple[slice, slice] | None:
    """The part of a mask that has the object, and a margin in pixels; None where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return None
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


def _prior(inside: Mask, spread_px: float) -> tuple[Array, Mask]:
    """Logarithm of how much likelier a pixel is on the object by its distance to the outline, and which are near it."""
    from scipy.ndimage import distance_transform_edt

    padded = np.pad(inside, 1, mode="edge")
    distance = np.where(padded, distance_transform_edt(padded) - 0.5, 0.5 - distance_transform_edt(~padded))
    distance = distance[1:-1, 1:-1].astype(np.float32)
    return 2.0 * np.clip(distance / np.float32(spread_px), -REACH, REACH), np.abs(distance) <= REACH * spread_px


def _log_likelihood(features: Array, weight: Array, where: Mask) -> Array:
    """[N] of the colours at some pixels under the Gaussian of their surroundings; constants are left out.

    Args:
        features: [H, W, 10] one, colours and their products.
    """
    from scipy.ndimage import uniform_filter

    weight = weight.astype(np.float32) + np.float32(1e-4)
    size = 2 * WINDOW_PX + 1
    sums = np.stack([uniform_filter(weight * features[..., k], size)[where] for k in range(features.shape[2])], 1)
    means = sums / np.maximum(sums[:, :1], 1e-8)
    centre = means[:, 1:4]
    xx, yy, zz, xy, xz, yz = (means[:, 4 + k] - centre[:, a] * centre[:, b] for k, (a, b) in enumerate(_PAIRS))
    xx, yy, zz = xx + _VARIANCE, yy + _VARIANCE, zz + _VARIANCE
    x, y, z = (features[..., 1:4][where] - centre).T
    cxx, cyy, czz = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    cxy, cxz, cyz = xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - xx * yz
    determinant = np.maximum(xx * cxx + xy * cxy + xz * cxz, 1e-12)
    square = (cxx * x * x + cyy * y * y + czz * z * z + 2.0 * (cxy * x * y + cxz * x * z + cyz * y * z)) / determinant
    return np.asarray(-0.5 * square - 0.5 * np.log(determinant), np.float32)


def _smoothed(evidence: Array) -> Array:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(evidence, 1.0))


def _logistic(value: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-value)), np.float32)
