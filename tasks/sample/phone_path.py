"""How somebody with a phone walks around a table: three rings, then some close-ups that the frame cuts."""

from __future__ import annotations

import numpy as np

from models.camera import Camera, PosedImage, matrix4
from tasks.sample.noise import FloatArray
from tasks.sample.path import around, look_at

FOCAL_35MM = 28
"""Equivalent focal length in the photos' EXIF."""
FOCAL_ERROR = 0.988
"""True focal length over the one in the EXIF: phones name the lens's nominal one."""

_RINGS = ((0.32, 15.0, 0.36), (0.28, 36.0, 0.345), (0.20, 60.0, 0.335))
"""(share of the photos, elevation in degrees, distance in metres); the close-ups take the rest."""
_CLOSE_M, _CLOSE_ELEVATIONS = 0.17, (18.0, 52.0)
_USUAL_DIAGONAL_M = 0.22


def phone_cameras(
    views: int, width: int, height: int, middle: FloatArray, diagonal_m: float, seed: int = 0
) -> tuple[PosedImage, ...]:
    """The pinhole cameras of a capture, in the order in which the photos were taken.

    Args:
        views: photos, at least 9.
        width, height: of each photo in pixels.
        middle: [3] of the object.
        diagonal_m: of the object; distances grow with it, by a fifth at most.
        seed: chooses where the hand was.
    """
    rng = np.random.default_rng(seed + 10)
    focal = FOCAL_ERROR * FOCAL_35MM / float(np.hypot(36.0, 24.0)) * float(np.hypot(width, height))
    camera = Camera(width=width, height=height, fx=focal, fy=focal, cx=width / 2.0, cy=height / 2.0)
    scale = float(np.clip(diagonal_m / _USUAL_DIAGONAL_M, 0.85, 1.2))
    poses: list[FloatArray] = []
    for ring, (share, elevation, distance) in enumerate(_RINGS):
        count = round(share * views)
        for k in range(count):
            azimuth = 2.0 * np.pi * (k + ring / 3.0 + rng.uniform(-0.2, 0.2)) / count
            slope = float(np.radians(elevation + rng.uniform(-4.0, 4.0)))
            target = middle + rng.uniform(-0.014, 0.014, 3)
            eye = around(target, azimuth, slope, scale * distance * float(rng.uniform(0.92, 1.08)))
            poses.append(look_at(eye, target, float(np.radians(rng.normal(0.0, 3.0)))))
    close = views - len(poses)
    for k in range(close):
        azimuth = 2.0 * np.pi * (k + rng.uniform(-0.2, 0.2)) / close
        slope = float(np.radians(_CLOSE_ELEVATIONS[k % 2] + rng.uniform(-6.0, 6.0)))
        aside = rng.uniform(0.025, 0.05) * rng.choice([-1.0, 1.0])
        target = middle + np.array([-np.sin(azimuth) * aside, np.cos(azimuth) * aside, rng.uniform(-0.02, 0.04)])
        eye = around(target, azimuth, slope, scale * _CLOSE_M * float(rng.uniform(0.95, 1.15)))
        poses.append(look_at(eye, target, float(np.radians(rng.normal(0.0, 5.0)))))
    return tuple(
        PosedImage(name=f"IMG_{number + 1:04d}.jpg", camera=camera, c2w=matrix4(c2w))
        for number, c2w in enumerate(poses)
    )
