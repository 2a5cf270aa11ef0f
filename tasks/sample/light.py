"""The studio's light: a large soft box, a weak fill from the other side, a bright room. Fixed to the object.

Everything is matt, so that the light which a place sends out does not depend on the camera: it is computed once for
the whole capture.
"""

from __future__ import annotations

import numpy as np

from models.mesh.raycast import RayCaster
from tasks.sample.noise import Float32Array, FloatArray

_ROOM, _KEY, _FILL = 0.62, 1.05, 0.35
KEY_AT: FloatArray = np.array([-0.45, -0.55, 1.0])
"""Towards the middle of the soft box."""
_FILL_AT: FloatArray = np.array([0.8, 0.5, 0.55])
_SPREAD = 0.42
"""Half width of the soft box seen from the object, in radians roughly."""
_MAT_BOUNCE = 0.16
_SAMPLES = 40
"""Directions for each of the three lights."""


def irradiance(caster: RayCaster, points: FloatArray, normals: FloatArray, offset_m: float) -> Float32Array:
    """[N] light that falls on each point, about 1 where nothing is in the way.

    Args:
        caster: the object, which throws the shadows.
        points, normals: [N, 3] places in the object's frame and their unit normals.
        offset_m: how far rays start above the surface.
    """
    start = (points + offset_m * normals).astype(np.float32)
    total = np.zeros(len(points), np.float32)
    for directions, weight in _lights():
        for direction in directions:
            cosine = normals @ direction
            facing = np.flatnonzero(cosine > 0)
            rays_d = np.broadcast_to(direction, (len(facing), 3))
            free = ~caster.occluded(start[facing], rays_d)
            total[facing] += weight * (cosine[facing] * free).astype(np.float32)
    return total


def _lights() -> list[tuple[FloatArray, float]]:
    """(directions [S, 3] towards the light, weight of each): room above and mat below, key, fill."""
    k = np.arange(_SAMPLES) + 0.5
    turn = k * np.pi * (3.0 - np.sqrt(5.0))
    height = k / _SAMPLES
    flat = np.sqrt(1.0 - height**2)
    dome = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], 1)
    disc = np.sqrt(height)[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    bounce = dome[::3] * [1.0, 1.0, -1.0]
    # a uniform dome of radiance 1 gives irradiance 1 on a level place: the mean cosine is 1 / 2
    return [
        (dome, 2.0 * _ROOM / _SAMPLES),
        (bounce, 2.0 * _MAT_BOUNCE / len(bounce)),
        (_soft_box(KEY_AT, disc), _KEY / _SAMPLES),
        (_soft_box(_FILL_AT, disc), _FILL / _SAMPLES),
    ]


def _soft_box(middle: FloatArray, disc: FloatArray) -> FloatArray:
    axis = middle / np.linalg.norm(middle)
    side = np.cross(axis, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    spread = axis + _SPREAD * (disc[:, :1] * side + disc[:, 1:] * np.cross(side, axis))
    return np.asarray(spread / np.linalg.norm(spread, axis=1, keepdims=True))
