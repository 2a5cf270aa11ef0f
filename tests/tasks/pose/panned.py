"""Photos that show no depth: a big picture all around a camera that only turns, and a flat poster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models.camera import FloatArray

SIZE = (640, 480)


def texture(width: int, height: int, seed: int = 3) -> FloatArray:
    """[height, width, 3] grey levels of noise at several scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cell, weight in ((64, 0.5), (20, 0.8), (7, 1.0)):
        coarse = rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += weight * np.asarray(fine, dtype=np.float64)
    return np.clip(total / 2.3 * 1.5 - 64, 0, 255)


def turned(yaw: float, pitch: float, roll: float) -> FloatArray:
    """[3, 3] from the world to a camera (x right, y down, z ahead); radians."""
    (a, b, c), (d, e, f) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[a, 0, -d], [0, 1, 0], [d, 0, a]])
    about_x = np.array([[1, 0, 0], [0, b, -e], [0, e, b]])
    about_z = np.array([[c, f, 0], [-f, c, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def rays(rotation: FloatArray, focal: float) -> FloatArray:
    """[480, 640, 3] directions of the pixels in the world; the focal length in long edges."""
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5 - SIZE[0] / 2, np.arange(SIZE[1]) + 0.5 - SIZE[1] / 2)
    return np.asarray(np.stack([x, y, np.full_like(x, focal * SIZE[0])], -1) @ rotation)


def panorama_photo(picture: FloatArray, rotation: FloatArray, focal: float) -> FloatArray:
    """What a camera in the middle of a cylinder around the y axis sees; the picture is the cylinder, unrolled."""
    ray = rays(rotation, focal)
    height, width = picture.shape[:2]
    per_radian = width / (2 * np.pi)
    u = (np.arctan2(ray[..., 0], ray[..., 2]) / (2 * np.pi) + 0.5) * width
    v = ray[..., 1] / np.hypot(ray[..., 0], ray[..., 2]) * per_radian + height / 2
    return _sampled(picture, u, v)


def poster_photo(picture: FloatArray, rotation: FloatArray, place: FloatArray, focal: float) -> FloatArray:
    """What a camera at `place` sees of a poster in the plane z = 1, 2 units wide, on grey."""
    ray = rays(rotation, focal)
    hit = place + ray * ((1.0 - place[2]) / ray[..., 2:])
    height, width = picture.shape[:2]
    return _sampled(picture, (hit[..., 0] + 1) / 2 * width, hit[..., 1] / 2 * width + height / 2)


def _sampled(picture: FloatArray, u: FloatArray, v: FloatArray) -> FloatArray:
    """Bilinear samples at the places u, v (px); grey outside."""
    height, width = picture.shape[:2]
    inside = (u >= 0.5) & (u < width - 0.5) & (v >= 0.5) & (v < height - 0.5)
    x, y = np.where(inside, u - 0.5, 0.0), np.where(inside, v - 0.5, 0.0)
    i, j = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    s, t = (x - i)[..., None], (y - j)[..., None]
    upper = picture[j, i] * (1 - s) + picture[j, i + 1] * s
    lower = picture[j + 1, i] * (1 - s) + picture[j + 1, i + 1] * s
    return np.where(inside[..., None], upper * (1 - t) + lower * t, 128.0)


def save(folder: Path, photos: Sequence[FloatArray]) -> Path:
    """The photos as JPEG, in order, with a little noise and without EXIF."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for k, photo in enumerate(photos):
        noisy = np.clip(photo + rng.normal(0, 2, photo.shape), 0, 255)
        Image.fromarray(np.round(noisy).astype(np.uint8)).save(folder / f"{k:03d}.jpg", quality=95)
    return folder
