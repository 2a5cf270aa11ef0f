"""The light: a large soft box, a weak fill from the other side, a bright room. Fixed to the object.

Everything is matt, so that the light which a place sends out does not depend on the camera: it is computed once for
the whole capture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.mesh.raycast import RayCaster
from tasks.sample.noise import Float32Array, FloatArray

KEY_AT: FloatArray = np.array([-0.45, -0.55, 1.0])
"""Towards the middle of the soft box."""
_FILL_AT: FloatArray = np.array([0.8, 0.5, 0.55])
_SAMPLES = 40
"""Directions for each of the three lights."""


@dataclass(frozen=True)
class Lights:
    """How much of the light comes from where, as irradiance on a surface that faces it."""

    room: float = 0.62
    key: float = 1.05
    fill: float = 0.35
    bounce: float = 0.16
    """From the mat below."""
    spread: float = 0.42
    """Half width of the soft boxes seen from the object, in radians roughly; a smaller one throws sharper shadows."""


STUDIO = Lights()
LIVING_ROOM = Lights(room=0.40, key=1.45, fill=0.22, spread=0.20)
"""A bright lamp in a dimmer room: shadows with an edge."""


def irradiance(
    caster: RayCaster, points: FloatArray, normals: FloatArray, offset_m: float, lights: Lights = STUDIO
) -> Float32Array:
    """[N] light that falls on each point, about 1 where nothing is in the way.

    Args:
        caster: the object, which throws the shadows.
        points, normals: [N, 3] places in the object's frame and their unit normals.
        offset_m: how far rays start above the surface.
        lights: what shines.
    """
    start = (points + offset_m * normals).astype(np.float32)
    total = np.zeros(len(points), np.float32)
    for directions, weight in _directions(lights):
        for direction in directions:
            cosine = normals @ direction
            facing = np.flatnonzero(cosine > 0)
            rays_d = np.broadcast_to(direction, (len(facing), 3))
            free = ~caster.occluded(start[facing], rays_d)
            total[facing] += weight * (cosine[facing] * free).astype(np.float32)
    return total


def lamps(rays_d: FloatArray, lights: Lights) -> Float32Array:
    """[N] light that comes straight from the two soft boxes along unit directions [N, 3]; 0 beside them.

    A box of half width s lights what faces it with s^2 times its own light, so that this fits `irradiance`.
    """
    total = np.zeros(len(rays_d), np.float32)
    for towards, strength in ((KEY_AT, lights.key), (_FILL_AT, lights.fill)):
        cosine = rays_d @ (towards / np.linalg.norm(towards))
        inside = cosine > 1.0 / np.hypot(1.0, lights.spread)
        total[inside] += strength / lights.spread**2
    return total


def _directions(lights: Lights) -> list[tuple[FloatArray, float]]:
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
        (dome, 2.0 * lights.room / _SAMPLES),
        (bounce, 2.0 * lights.bounce / len(bounce)),
        (_soft_box(KEY_AT, lights.spread * disc), lights.key / _SAMPLES),
        (_soft_box(_FILL_AT, lights.spread * disc), lights.fill / _SAMPLES),
    ]


def _soft_box(middle: FloatArray, disc: FloatArray) -> FloatArray:
    axis = middle / np.linalg.norm(middle)
    side = np.cross(axis, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    spread = axis + disc[:, :1] * side + disc[:, 1:] * np.cross(side, axis)
    return np.asarray(spread / np.linalg.norm(spread, axis=1, keepdims=True))
