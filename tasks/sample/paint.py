"""The sample's colours: painted and glazed earthenware, as a function of the place in space.

A solid texture needs no seams and is sharp at every resolution: pictures, vertex colours and checks all ask the
same function.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.sample import object as shape
from tasks.sample.noise import Float32Array, FloatArray, SolidNoise

_HEX = {
    "cream": "d9c7a0",
    "celadon": "7fa695",
    "cobalt": "3f5f94",
    "ochre": "cf9542",
    "brick": "b0603f",
    "plum": "6b4454",
    "ink": "3a3f4a",
    "sage": "8f9a62",
}
PALETTE: dict[str, FloatArray] = {
    name: np.array([int(code[k : k + 2], 16) / 255.0 for k in (0, 2, 4)]) for name, code in _HEX.items()
}
_SPECKLES = 9000
_SPECKLE_M = (0.0004, 0.0013)


def solid_colour(points: FloatArray, seed: int = 0) -> Float32Array:
    """[N, 3] sRGB in [0, 1] of the material at points [N, 3] on the object's surface."""
    noise = SolidNoise(seed)
    # the painter's hand: every line wanders a little
    wander = np.stack([noise.at(points, 0.009, 40 + k) for k in range(3)], 1) * 0.0007
    drawn = points + wander
    distances = shape.part_distances(points)
    nearest = np.argmin(distances, 1)
    rgb = np.zeros((len(points), 3))
    painters = (_foot, _ring, _bowl, _handle)
    for part, painter in enumerate(painters):
        chosen = nearest == part
        rgb[chosen] = painter(drawn[chosen], points[chosen], noise)
    rgb = _speckle(rgb, points, seed)
    return _glaze(rgb, points, noise)


def _glaze(rgb: FloatArray, points: FloatArray, noise: SolidNoise) -> Float32Array:
    """Uneven glaze over the paint: clouds, grain of all sizes, fine cracks."""
    clouds = noise.octaves(points, 0.030, 3, 0.75, 3)
    grain = noise.octaves(points, 0.0060, 4, 0.85, 5)
    tint = np.stack([noise.at(points, 0.012, 20 + k) for k in range(3)], 1)
    rgb = rgb * (1.0 + 0.13 * clouds + 0.15 * grain)[:, None] + 0.035 * tint
    ridge = np.abs(noise.octaves(points, 0.008, 2, 0.5, 30))
    patchy = np.clip(noise.at(points, 0.025, 33) * 2.0 + 0.4, 0.0, 1.0)
    crack = np.clip(1.0 - ridge / 0.035, 0.0, 1.0) * patchy
    rgb = rgb * (1.0 - 0.42 * crack[:, None])
    return np.asarray(np.clip(rgb, 0.06, 0.93), dtype=np.float32)


def _speckle(rgb: FloatArray, points: FloatArray, seed: int) -> FloatArray:
    """Iron spots and pale drops of different sizes, strewn over the box around the object."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed + 1)
    volume = shape.HIGH - shape.LOW
    centres = shape.LOW + rng.random((_SPECKLES * 6, 3)) * volume
    keep = np.abs(shape.signed_distance(centres)) < _SPECKLE_M[1]
    centres = centres[keep]
    radii = _SPECKLE_M[0] + (_SPECKLE_M[1] - _SPECKLE_M[0]) * rng.random(len(centres)) ** 2
    tones = np.stack([PALETTE[name] for name in ("ink", "cream", "plum", "ochre")])
    tone = tones[rng.choice(4, len(centres), p=(0.45, 0.35, 0.1, 0.1))]
    distance, index = cKDTree(centres).query(points, distance_upper_bound=2 * _SPECKLE_M[1], workers=2)
    index = np.minimum(index, len(centres) - 1)
    cover = np.clip((radii[index] * 1.15 - distance) / (0.25 * radii[index]), 0.0, 1.0)[:, None] * 0.85
    return np.asarray(rgb * (1.0 - cover) + tone[index] * cover)


def _mix(rgb: FloatArray, name: str, cover: FloatArray) -> FloatArray:
    share = np.clip(cover, 0.0, 1.0)[:, None]
    return np.asarray(rgb * (1.0 - share) + PALETTE[name] * share)


def _ground(name: str, count: int) -> FloatArray:
    return np.tile(PALETTE[name], (count, 1))


def _edge(value: npt.NDArray[Any], soft: float) -> FloatArray:
    """1 where `value` is above zero, with a soft edge of width `soft`."""
    return np.asarray(np.clip(value / soft + 0.5, 0.0, 1.0))


def _line(value: npt.NDArray[Any], half_width: float) -> FloatArray:
    return _edge(half_width - np.abs(value), 0.0004)


def _wave(phase: FloatArray) -> FloatArray:
    """Triangle wave of period 1 between -1 and 1."""
    return np.asarray(4.0 * np.abs(phase - np.floor(phase + 0.5)) - 1.0)


def _foot(drawn: FloatArray, points: FloatArray, noise: SolidNoise) -> FloatArray:
    radial, angle, z = np.hypot(drawn[:, 0], drawn[:, 1]), np.arctan2(drawn[:, 1], drawn[:, 0]), drawn[:, 2]
    rgb = _ground("cobalt", len(drawn))
    rgb = _mix(rgb, "celadon", _edge(noise.octaves(points, 0.010, 2, 0.6, 11), 0.3))
    petals = radial - 0.0335 - 0.003 * np.cos(13 * angle + 0.8 * np.sin(3 * angle))
    rgb = _mix(rgb, "ochre", _line(petals, 0.0011))
    rgb = _mix(rgb, "cream", _line(z - 0.0045 - 0.0018 * _wave(angle * 31 / (2 * np.pi)), 0.0007) * (radial > 0.037))
    return _mix(rgb, "brick", _line(z - 0.0125, 0.0012) * (radial < 0.033))


def _ring(drawn: FloatArray, points: FloatArray, noise: SolidNoise) -> FloatArray:
    x, y, z = drawn.T
    around = np.arctan2(z - shape.RING_CENTRE_Z_M, x)
    across = np.arctan2(y, np.hypot(x, z - shape.RING_CENTRE_Z_M) - shape.RING_RADIUS_M)
    rgb = _ground("brick", len(drawn))
    rgb = _mix(rgb, "ochre", _edge(noise.octaves(points, 0.016, 3, 0.6, 13) - 0.25, 0.35))
    # diamonds of changing size around the ring, outlined and filled in turn
    turn = around * 11 / (2 * np.pi)
    size = 0.75 + 0.2 * np.sin(2.3 * around + 1.0)
    side = np.abs(np.abs(across) - 1.35) / 0.95
    diamond = size - side - np.abs(_wave(turn) + 1.0) * 0.75
    rgb = _mix(rgb, "cream", _edge(diamond, 0.06))
    rgb = _mix(rgb, "ink", _edge(0.055 - np.abs(diamond), 0.04))
    filled = np.where(np.floor(turn + 0.5) % 3 == 0, 1.0, 0.0)
    rgb = _mix(rgb, "cobalt", _edge(diamond - 0.3, 0.06) * filled)
    rgb = _mix(rgb, "plum", _edge(diamond - 0.38, 0.06) * (1.0 - filled))
    seam = np.minimum(np.abs(across), np.abs(np.abs(across) - np.pi))
    rgb = _mix(rgb, "ink", _edge(0.10 - np.abs(seam - 0.22), 0.06))
    return _mix(rgb, "cream", _edge(0.2 - seam, 0.06) * _edge(_wave(turn * 5), 0.4))


def _bowl(drawn: FloatArray, points: FloatArray, noise: SolidNoise) -> FloatArray:
    x, y, z = drawn[:, 0], drawn[:, 1], drawn[:, 2] - shape.BOWL_CENTRE_Z_M
    reach, radial, angle = np.linalg.norm([x, y, z], axis=0), np.hypot(x, y), np.arctan2(y, x)
    latitude = np.arctan2(-z, radial)
    outside = _bowl_outside(points, latitude, angle, noise)
    inside = _bowl_inside(points, radial, angle, noise)
    rgb = np.where((reach > shape.BOWL_RADIUS_M)[:, None], outside, inside)
    rim = _edge(z + 0.0035, 0.0005)
    rgb = _mix(rgb, "cobalt", rim)
    return _mix(rgb, "ochre", rim * _edge(np.sin(23 * angle + 2.0 * np.sin(5 * angle)) - 0.2, 0.4))


def _bowl_outside(points: FloatArray, latitude: FloatArray, angle: FloatArray, noise: SolidNoise) -> FloatArray:
    rgb = _ground("celadon", len(points))
    rgb = _mix(rgb, "sage", _edge(noise.octaves(points, 0.020, 3, 0.6, 15), 0.5))
    zigzag = latitude - 0.52 - 0.10 * _wave(angle * 12 / (2 * np.pi) + 0.15 * np.sin(2 * angle))
    rgb = _mix(rgb, "cream", _edge(0.075 - np.abs(zigzag), 0.012))
    rgb = _mix(rgb, "cobalt", _edge(0.045 - np.abs(zigzag), 0.012))
    rgb = _mix(rgb, "ochre", _edge(0.05 - np.abs(latitude - 0.29), 0.012))
    rgb = _mix(
        rgb, "ink", _edge(_wave(angle * 37 / (2 * np.pi)) - 0.1, 0.3) * _edge(0.03 - np.abs(latitude - 0.29), 0.01)
    )
    leaves = np.sin(9 * angle + 1.3 * np.sin(2 * angle)) - np.abs(latitude - 0.92) * 6.0
    rgb = _mix(rgb, "brick", _edge(leaves, 0.12))
    rgb = _mix(rgb, "cream", _edge(0.10 - np.abs(leaves - 0.05), 0.08))
    return _mix(rgb, "plum", _edge(latitude - 1.18, 0.02))


def _bowl_inside(points: FloatArray, radial: FloatArray, angle: FloatArray, noise: SolidNoise) -> FloatArray:
    rgb = _ground("cream", len(points))
    rgb = _mix(rgb, "ochre", 0.7 * _edge(noise.octaves(points, 0.014, 3, 0.7, 17) - 0.2, 0.4))
    star = radial - 0.0165 - 0.0045 * np.cos(7 * angle + 0.5 * np.sin(angle))
    rgb = _mix(rgb, "cobalt", _line(star, 0.0016))
    rgb = _mix(rgb, "brick", _edge(-star - 0.0045, 0.0006))
    rgb = _mix(rgb, "cream", _line(radial - 0.006 - 0.002 * np.cos(5 * angle), 0.0011))
    fish = np.sin(11 * angle + 180.0 * radial) - np.abs(radial - 0.029) * 260.0
    rgb = _mix(rgb, "celadon", _edge(fish, 0.15))
    rgb = _mix(rgb, "ink", _edge(0.14 - np.abs(fish), 0.10))
    band = _edge(radial - 0.0365, 0.0006)
    rgb = _mix(rgb, "cobalt", band)
    return _mix(rgb, "cream", band * _edge(_wave(angle * 29 / (2 * np.pi) + 90.0 * radial) - 0.25, 0.3))


def _handle(drawn: FloatArray, points: FloatArray, noise: SolidNoise) -> FloatArray:
    forward, up = drawn[:, 0] - shape.HANDLE_CENTRE_M[0], drawn[:, 2] - shape.HANDLE_CENTRE_M[2]
    along = np.arctan2(up, forward)
    across = np.arctan2(drawn[:, 1], np.hypot(forward, up) - shape.HANDLE_RADIUS_M)
    rgb = _ground("ochre", len(drawn))
    twist = _wave(along * 2.1 + across / (2 * np.pi) + 0.2 * np.sin(4 * along))
    rgb = _mix(rgb, "cobalt", _edge(twist - 0.1, 0.15))
    rgb = _mix(rgb, "cream", _edge(0.16 - np.abs(twist - 0.1), 0.1))
    return _mix(rgb, "brick", _edge(noise.octaves(points, 0.006, 2, 0.6, 19) - 0.45, 0.2))
