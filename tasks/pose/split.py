"""Which photos are kept out of training: about one in eight, spread over the viewpoints."""

from __future__ import annotations

import numpy as np

from models.camera import FloatArray

_ROUNDS = 10


def heldout_count(images: int, every: int) -> int:
    """How many of `images` photos to keep out: at least 1, and 2 from 8 photos on."""
    least = 2 if images >= 8 else 1
    return min(max(least, round(images / every)), max(images - 2, 0))


def split_heldout(centres: FloatArray, target: FloatArray, every: int, seed: int) -> list[int]:
    """Indices of the held-out photos, sorted; the same for the same seed.

    The views are clustered by direction and distance from `target`, and one is taken from the middle of each
    cluster: it has neighbours that stay, so that no side of the object loses its only photo. A view on its own
    is never taken while there are others.

    Args:
        centres: [N, 3] camera centres in the world.
        target: [3] what the cameras look at.
    """
    count = heldout_count(len(centres), every)
    rng = np.random.default_rng(seed)
    offsets = centres - target
    reach = np.maximum(np.linalg.norm(offsets, axis=1, keepdims=True), 1e-12)
    views = np.concatenate([offsets / reach, 0.5 * np.log(reach / np.median(reach))], 1)
    labels = _cluster(views, count, rng)
    groups = sorted((np.flatnonzero(labels == label) for label in range(count)), key=lambda g: (-len(g), g[:1].sum()))
    taken: list[int] = []
    while len(taken) < count:
        before = len(taken)
        for group in groups:
            left = np.setdiff1d(group, taken)
            if len(taken) < count and len(left) > 1:
                taken.append(_middle(views[left], left, rng))
        if len(taken) == before:
            left = np.setdiff1d(np.arange(len(views)), taken)
            taken.append(int(rng.choice(left)))
    return sorted(taken)


def _cluster(views: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """[N] labels of a k-means with farthest-point starts."""
    chosen = [int(rng.integers(len(views)))] if count else []
    while len(chosen) < count:
        gaps = np.linalg.norm(views[:, None] - views[chosen][None], axis=2).min(1)
        chosen.append(int(gaps.argmax()))
    means = views[chosen]
    labels = np.zeros(len(views))
    for _ in range(_ROUNDS if count else 0):
        labels = np.linalg.norm(views[:, None] - means[None], axis=2).argmin(1)
        means = np.array([views[labels == k].mean(0) if (labels == k).any() else means[k] for k in range(count)])
    return labels


def _middle(views: FloatArray, indices: FloatArray, rng: np.random.Generator) -> int:
    """One of the three views nearest to their mean."""
    order = np.argsort(np.linalg.norm(views - views.mean(0), axis=1), kind="stable")
    return int(indices[order[int(rng.integers(min(3, len(order))))]])
