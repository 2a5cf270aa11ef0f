"""The capture's arrangement: which way is up, and where the cameras look."""

from __future__ import annotations

import numpy as np

from models.camera import FloatArray

_ROUNDS = 20
_FORWARD_SPREAD = 0.1


def camera_up(c2w: FloatArray) -> FloatArray:
    """[3] unit vector that points up, from [N, 4, 4] poses alone.

    People hold cameras level: up is across the cameras' x axes, and near the mean of their -y axes, which alone
    decides where all cameras look the same way. Cameras that disagree (a photo upside down) lose their weight.
    """
    x, minus_y = c2w[:, :3, 0], -c2w[:, :3, 1]
    weights = np.ones(len(c2w))
    up = _unit(np.median(minus_y, axis=0) + 1e-9 * minus_y[0])
    for _ in range(_ROUNDS):
        mean = _unit(weights @ minus_y)
        across = np.einsum("n,ni,nj->ij", weights, x, x) / weights.sum()
        _, vectors = np.linalg.eigh(across + 0.1 * (np.eye(3) - np.outer(mean, mean)))
        up = vectors[:, 0] * np.sign(vectors[:, 0] @ mean)
        weights = 1.0 / (0.05 + (x @ up) ** 2 + (minus_y @ up < 0.0))
    return _unit(up)


def spread(axes: FloatArray) -> float:
    """How far the optical axes [N, 3] differ: 0 for parallel ones, 2/3 for all directions alike."""
    return float(1.0 - np.linalg.eigvalsh(axes.T @ axes / len(axes))[-1])


def faces_forward(axes: FloatArray) -> bool:
    """Whether the cameras look the same way (a facade, a relief) rather than at one thing from several sides."""
    return spread(axes) < _FORWARD_SPREAD or len(axes) < 3


def look_at(centres: FloatArray, axes: FloatArray, middle: FloatArray | None) -> FloatArray:
    """[3] the point nearest to all optical axes, robustly.

    Args:
        centres: [N, 3] camera centres.
        axes: [N, 3] unit optical axes.
        middle: [3] the middle of the sparse points: it decides as far as parallel axes leave the point open.
    """
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    weights = np.ones(len(centres))
    hold = 0.02 if middle is not None else 1e-6
    anchor = middle if middle is not None else centres.mean(0)
    point = anchor
    for _ in range(_ROUNDS):
        a = np.einsum("n,nij->ij", weights, across) + hold * weights.sum() * np.eye(3)
        b = np.einsum("n,nij,nj->i", weights, across, centres) + hold * weights.sum() * anchor
        point = np.linalg.solve(a, b)
        miss = np.linalg.norm(np.einsum("nij,nj->ni", across, point - centres), axis=1)
        size = max(float(np.median(miss)), 1e-9 * float(np.abs(centres - point).max()), 1e-300)
        weights = 1.0 / (1.0 + (miss / (2.0 * size)) ** 2)
    return point


def horizontal(direction: FloatArray, up: FloatArray) -> FloatArray:
    """[3] unit vector: `direction` without its part along `up`; any horizontal one where nothing is left."""
    flat = direction - (direction @ up) * up
    if np.linalg.norm(flat) < 1e-6:
        flat = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    return _unit(flat)


def level_axes(direction: FloatArray, up: FloatArray) -> FloatArray:
    """[3, 3] right-handed rows x, y, z with z = `up` and x along `direction` as far as level."""
    x = horizontal(direction, up)
    return np.stack([x, np.cross(up, x), up])


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-300))
