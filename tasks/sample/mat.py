"""The sample's mat: a printed disc with a grid, figures and a scale bar of a known length. It lies at z = 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tasks.sample.noise import FloatArray, SolidNoise

MAT_RADIUS_M = 0.195
BAR_M = 0.100
"""Distance between the centres of the bar's two end marks."""
BAR_A: FloatArray = np.array([-BAR_M / 2.0, -0.078, 0.0])
BAR_B: FloatArray = np.array([BAR_M / 2.0, -0.078, 0.0])

_PIXEL_M = 0.0002
_BASE = (104, 122, 112)
_INKS = ((168, 178, 160), (58, 72, 78), (150, 118, 92), (92, 104, 140), (186, 182, 168), (70, 92, 76))
_FIGURES = 420


def draw_mat(seed: int = 0) -> npt.NDArray[np.uint8]:
    """[S, S, 3] sRGB picture of the square around the mat; row 0 is at +y, column 0 at -x."""
    size = round(2 * MAT_RADIUS_M / _PIXEL_M)
    picture = Image.new("RGB", (size, size), _BASE)
    draw = ImageDraw.Draw(picture)
    _grid(draw)
    _figures(draw, seed)
    _scale_bar(draw)
    return _grain(np.asarray(picture), seed)


def mat_colour(picture: npt.NDArray[np.uint8], xy: FloatArray) -> npt.NDArray[np.uint8]:
    """[N, 3] sRGB at places [N, 2] of the plane z = 0 inside the picture's square."""
    size = len(picture)
    column = np.clip(((xy[:, 0] + MAT_RADIUS_M) / _PIXEL_M).astype(np.int64), 0, size - 1)
    row = np.clip(((MAT_RADIUS_M - xy[:, 1]) / _PIXEL_M).astype(np.int64), 0, size - 1)
    return np.asarray(picture[row, column])


def _pixel(x: float, y: float) -> tuple[float, float]:
    return ((x + MAT_RADIUS_M) / _PIXEL_M, (MAT_RADIUS_M - y) / _PIXEL_M)


def _grid(draw: ImageDraw.ImageDraw) -> None:
    steps = int(MAT_RADIUS_M / 0.01)
    for k in range(-steps, steps + 1):
        at, width, ink = k * 0.01, (6 if k % 5 == 0 else 3), ((150, 164, 150) if k % 5 == 0 else (128, 144, 132))
        draw.line([_pixel(at, -MAT_RADIUS_M), _pixel(at, MAT_RADIUS_M)], ink, width)
        draw.line([_pixel(-MAT_RADIUS_M, at), _pixel(MAT_RADIUS_M, at)], ink, width)
    for radius in (0.06, 0.12, 0.18):
        low, high = _pixel(-radius, radius), _pixel(radius, -radius)
        draw.ellipse([*low, *high], outline=(160, 150, 120), width=5)
    for degree in range(0, 360, 3):
        turn, long = np.radians(degree), 0.008 if degree % 15 == 0 else 0.004
        ends = [_pixel(r * float(np.cos(turn)), r * float(np.sin(turn))) for r in (0.18, 0.18 + long)]
        draw.line(ends, (62, 74, 76), 4)


def _figures(draw: ImageDraw.ImageDraw, seed: int) -> None:
    """Letters, polygons, rings and crosses of all sizes, nowhere the same."""
    rng = np.random.default_rng(seed + 2)
    for _ in range(_FIGURES):
        radius, turn = MAT_RADIUS_M * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        x, y = _pixel(float(radius * np.cos(turn)), float(radius * np.sin(turn)))
        size = float(rng.choice([10, 16, 24, 36], p=[0.3, 0.35, 0.25, 0.1]))
        ink = _INKS[rng.integers(len(_INKS))]
        kind = rng.integers(5)
        if kind == 0:
            letter = "ABCDEFGHJKLMNPRSTUVXYZ23456789&?"[rng.integers(32)]
            draw.text((x, y), letter, fill=ink, font=ImageFont.load_default(size * 2.2), anchor="mm")
        elif kind == 1:
            corners = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            reach = size * rng.uniform(0.5, 1.2, len(corners))
            around = zip(x + reach * np.cos(corners), y + reach * np.sin(corners), strict=True)
            draw.polygon([(float(a), float(b)) for a, b in around], fill=ink)
        elif kind == 2:
            draw.ellipse([x - size, y - size, x + size, y + size], outline=ink, width=max(3, int(size / 3)))
        elif kind == 3:
            turn = rng.uniform(0, np.pi)
            dx, dy = size * float(np.cos(turn)), size * float(np.sin(turn))
            draw.line([x - dx, y - dy, x + dx, y + dy], ink, max(3, int(size / 3)))
            draw.line([x + dy, y - dx, x - dy, y + dx], ink, max(3, int(size / 3)))
        else:
            draw.ellipse([x - size / 2, y - size / 2, x + size / 2, y + size / 2], fill=ink)


def _scale_bar(draw: ImageDraw.ImageDraw) -> None:
    (ax, ay), (bx, by) = _pixel(*BAR_A[:2]), _pixel(*BAR_B[:2])
    draw.rectangle([ax - 34, ay - 34, bx + 34, by + 34], fill=(176, 176, 168), outline=(60, 64, 66), width=4)
    step = (bx - ax) / 10.0
    for k in range(10):
        low, high = (ay - 9, ay) if k % 2 else (ay, ay + 9)
        draw.rectangle([ax + k * step, low, ax + (k + 1) * step, high], fill=(48, 52, 56))
    draw.text(((ax + bx) / 2, ay + 21), "100 mm", fill=(48, 52, 56), font=ImageFont.load_default(22), anchor="mm")
    for x, y in ((ax, ay), (bx, by)):
        # quartered targets: the centre is where four quadrants meet, sharp at any blur
        box = [x - 24, y - 24, x + 24, y + 24]
        draw.ellipse(box, fill=(205, 205, 198), outline=(40, 44, 48), width=4)
        draw.pieslice(box, 0, 90, fill=(40, 44, 48))
        draw.pieslice(box, 180, 270, fill=(40, 44, 48))


def _grain(picture: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """Speckled material: stains and grain of many sizes, so that no two places look alike."""
    size = len(picture)
    noise = SolidNoise(seed + 3)
    v, u = np.mgrid[0:size, 0:size]
    flat = np.stack([u.ravel(), v.ravel(), np.zeros(size * size)], 1) * _PIXEL_M
    grain = noise.octaves(flat, 0.0075, 4, 0.85, 2) + 0.6 * noise.octaves(flat, 0.05, 2, 0.7, 9)
    shade = 1.0 + 0.16 * grain.reshape(size, size, 1)
    return np.asarray(np.clip(picture * shade, 25, 225), dtype=np.uint8)
