"""Pictures on the room's surfaces: wood, cloth, wallpaper, posters, books; structure at every scale, no two alike."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tasks.sample.noise import Float32Array, FloatArray, SolidNoise
from tasks.sample.sheets import Painter

Colour = tuple[int, int, int]

INKS: tuple[Colour, ...] = (
    (52, 60, 92), (150, 62, 48), (196, 150, 70), (74, 110, 88), (206, 196, 172), (44, 44, 48), (112, 82, 110),
    (96, 128, 160), (170, 112, 84), (222, 214, 200), (84, 92, 60), (132, 40, 60),
)  # fmt: skip
_PLACES_A_WAVE = 4.0
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ23456789&?"


def wood(dark: Colour = (110, 72, 44), pale: Colour = (178, 128, 82), plank_m: float = 0.13) -> Painter:
    """Planks along the columns with streaks, growth rings and joints."""
    return partial(_wood, np.array(dark) / 255.0, np.array(pale) / 255.0, plank_m)


def cloth(inks: tuple[Colour, ...], stripe_m: float = 0.06) -> Painter:
    """A woven check of stripes of uneven width."""
    return partial(_cloth, np.array(inks) / 255.0, stripe_m)


def lacquer(ink: Colour, marks: int = 0) -> Painter:
    """One colour with clouds, scratches and grain, and `marks` figures for each square metre on it."""
    return partial(_lacquer, ink, marks)


def wallpaper(ground: Colour, stripe: Colour, motif: Colour) -> Painter:
    """Stripes with rows of motifs that differ a little, and stains of age."""
    return partial(_wallpaper, ground, stripe, motif)


def poster(rows: int = 3) -> Painter:
    """A printed picture: large figures, small figures, and `rows` lines of letters."""
    return partial(_poster, rows)


def book_backs() -> Painter:
    """A row of books seen from their backs."""
    return _book_backs


def outdoors() -> Painter:
    """What a window shows: sky with clouds over trees and roofs."""
    return _outdoors


def _clouds(
    shape: tuple[int, int],
    texel_m: float,
    rng: np.random.Generator,
    longest_m: float,
    count: int,
    gain: float = 0.75,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Float32Array:
    """[h, w] octaves of noise, drawn out by `stretch` (down, right)."""
    noise, which = SolidNoise(int(rng.integers(1 << 31))), int(rng.integers(64))
    total = np.zeros(shape, np.float32)
    for k in range(count):
        wavelength = longest_m * 0.485**k
        if wavelength * min(stretch) < 2.0 * texel_m:
            break
        # long waves need few places; the rest is interpolated
        rows, columns = (
            max(2, min(length, round(length * texel_m * _PLACES_A_WAVE / (wavelength * drawn)) + 2))
            for length, drawn in zip(shape, stretch, strict=True)
        )
        v, u = np.mgrid[0:rows, 0:columns]
        y = (v.ravel() + 0.5) / rows * shape[0] * texel_m / stretch[0]
        x = (u.ravel() + 0.5) / columns * shape[1] * texel_m / stretch[1]
        coarse = noise.at(np.stack([x, y, np.zeros(x.size)], 1), wavelength, (which + 7 * k) % 64)
        fine = Image.fromarray(coarse.reshape(rows, columns)).resize(shape[::-1], Image.Resampling.BICUBIC)
        total += np.float32(gain**k) * np.asarray(fine)
    return total


def _shade(rgb: npt.NDArray[np.floating], factor: npt.NDArray[np.floating]) -> Float32Array:
    return np.clip(rgb * factor[..., None], 0.03, 0.95).astype(np.float32)


def _wood(
    dark: FloatArray, pale: FloatArray, plank_m: float, h: int, w: int, texel_m: float, rng: np.random.Generator
) -> Float32Array:
    streaks = _clouds((h, w), texel_m, rng, 0.03, 4, 0.8, stretch=(0.5, 9.0))
    bend = _clouds((h, w), texel_m, rng, 0.5, 2, 0.5, stretch=(0.6, 2.0))
    v = np.arange(h)[:, None] * texel_m
    plank = np.floor(v / plank_m).astype(np.int64)
    shift = rng.uniform(0, 40, plank.max() + 1)[plank]
    rings = np.sin(2.0 * np.pi * ((v + shift) / 0.021 + 3.0 * bend))
    tone = np.clip(0.5 + 0.28 * streaks + 0.16 * rings + rng.uniform(-0.22, 0.22, plank.max() + 1)[plank], 0, 1)
    joint = np.abs(v / plank_m - np.round(v / plank_m)) * plank_m < 0.0012
    rgb = dark + (pale - dark) * tone[..., None]
    pores = 1.0 + 0.16 * _clouds((h, w), texel_m, rng, 0.006, 3, 0.8, stretch=(0.7, 2.5))
    return _shade(rgb, np.where(joint, 0.45, 1.0) * pores)


def _cloth(inks: FloatArray, stripe_m: float, h: int, w: int, texel_m: float, rng: np.random.Generator) -> Float32Array:
    edges_u, edges_v = (np.cumsum(rng.uniform(0.15, 1.0, 400) * stripe_m) for _ in range(2))
    tone_u, tone_v = (inks[rng.integers(len(inks), size=401)] for _ in range(2))
    x, y = np.arange(w) * texel_m, np.arange(h) * texel_m
    warp, weft = tone_u[np.searchsorted(edges_u, x)][None], tone_v[np.searchsorted(edges_v, y)][:, None]
    threads = 2.0 * np.pi / (6.0 * texel_m)
    over = (0.5 + 0.3 * np.sign(np.sin(threads * x)[None] * np.sin(threads * y)[:, None]))[..., None]
    return _shade(warp * over + weft * (1.0 - over), 1.0 + 0.2 * _clouds((h, w), texel_m, rng, 0.06, 5, 0.85))


def _lacquer(ink: Colour, marks: int, h: int, w: int, texel_m: float, rng: np.random.Generator) -> Float32Array:
    picture = Image.new("RGB", (w, h), ink)
    draw = ImageDraw.Draw(picture)
    _figures(draw, w, h, round(marks * h * w * texel_m**2), (0.012 / texel_m, 0.05 / texel_m), rng)
    for _ in range(round(60 * h * w * texel_m**2) + 4):
        x, y, turn, reach = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0, np.pi), rng.uniform(5, 60)
        ends = [(x, y), (x + reach * float(np.cos(turn)), y + reach * float(np.sin(turn)))]
        draw.line(ends, tuple(int(c * 0.7) for c in ink), 1)
    return _shade(np.asarray(picture) / 255.0, 1.0 + 0.2 * _clouds((h, w), texel_m, rng, 0.15, 5, 0.75))


def _wallpaper(
    ground: Colour, stripe: Colour, motif: Colour, h: int, w: int, texel_m: float, rng: np.random.Generator
) -> Float32Array:
    picture = Image.new("RGB", (w, h), ground)
    draw = ImageDraw.Draw(picture)
    pitch = 0.16 / texel_m
    for k in range(int(w / pitch) + 1):
        draw.rectangle([k * pitch, 0, k * pitch + pitch * 0.28, h], fill=stripe)
        draw.line([k * pitch + pitch * 0.36, 0, k * pitch + pitch * 0.36, h], stripe, max(1, int(0.004 / texel_m)))
    for i in range(int(h / pitch) + 1):
        for k in range(int(w / pitch) + 1):
            x = (k + 0.66) * pitch + float(rng.normal(0, 0.02)) * pitch
            y = (i + 0.5 * (k % 2)) * pitch
            _flower(draw, x, y, pitch * float(rng.uniform(0.14, 0.24)), motif, stripe, rng)
    stains = 1.0 + 0.10 * _clouds((h, w), texel_m, rng, 0.7, 3, 0.7)
    grain = 1.0 + 0.09 * _clouds((h, w), texel_m, rng, 0.03, 3, 0.8)
    return _shade(np.asarray(picture) / 255.0, stains * grain)


def _flower(
    draw: ImageDraw.ImageDraw, x: float, y: float, size: float, ink: Colour, heart: Colour, rng: np.random.Generator
) -> None:
    petals, turn = int(rng.integers(4, 8)), float(rng.uniform(0, 6.3))
    for k in range(petals):
        a = turn + 2.0 * np.pi * k / petals
        cx, cy, r = x + size * float(np.cos(a)), y + size * float(np.sin(a)), size * 0.55
        draw.ellipse([cx - r, cy - r, cx + r, cy + r], fill=ink)
    draw.ellipse([x - size * 0.5, y - size * 0.5, x + size * 0.5, y + size * 0.5], fill=heart)


def _poster(rows: int, h: int, w: int, texel_m: float, rng: np.random.Generator) -> Float32Array:
    chosen = rng.permutation(len(INKS))
    picture = Image.new("RGB", (w, h), INKS[chosen[0]])
    draw = ImageDraw.Draw(picture)
    edge = float(min(h, w))
    _figures(draw, w, h, 9, (edge * 0.12, edge * 0.38), rng)
    _figures(draw, w, h, 45, (edge * 0.015, edge * 0.06), rng)
    for k in range(rows):
        size = edge * float(rng.uniform(0.05, 0.16))
        word = "".join(_LETTERS[int(c)] for c in rng.integers(len(_LETTERS), size=int(rng.integers(4, 12))))
        place = (w * float(rng.uniform(0.3, 0.7)), h * (k + 0.7) / (rows + 0.4))
        ink = INKS[chosen[1 + k % 5]]
        draw.text(place, word, fill=ink, font=ImageFont.load_default(max(6.0, size)), anchor="mm")
    margin = max(2, int(edge * 0.03))
    draw.rectangle([0, 0, w - 1, h - 1], outline=INKS[chosen[6]], width=margin)
    return _shade(
        np.asarray(picture) / 255.0, 1.0 + 0.16 * _clouds((h, w), texel_m, rng, edge * texel_m * 0.3, 5, 0.75)
    )


def _figures(
    draw: ImageDraw.ImageDraw, w: int, h: int, count: int, reach: tuple[float, float], rng: np.random.Generator
) -> None:
    """Polygons, rings, bars and discs of many colours."""
    for _ in range(count):
        x, y, size = rng.uniform(0, w), rng.uniform(0, h), float(rng.uniform(*reach))
        ink, kind = INKS[rng.integers(len(INKS))], rng.integers(4)
        if kind == 0:
            turn = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            spread = size * rng.uniform(0.5, 1.1, len(turn))
            corners = zip(x + spread * np.cos(turn), y + spread * np.sin(turn), strict=True)
            draw.polygon([(float(a), float(b)) for a, b in corners], fill=ink)
        elif kind == 1:
            draw.ellipse([x - size, y - size, x + size, y + size], outline=ink, width=max(2, int(size / 3)))
        elif kind == 2:
            a = float(rng.uniform(0, np.pi))
            dx, dy = size * float(np.cos(a)), size * float(np.sin(a))
            draw.line([x - dx, y - dy, x + dx, y + dy], ink, max(2, int(size / 4)))
        else:
            draw.ellipse([x - size / 2, y - size / 2, x + size / 2, y + size / 2], fill=ink)


def _book_backs(h: int, w: int, texel_m: float, rng: np.random.Generator) -> Float32Array:
    picture = Image.new("RGB", (w, h), (30, 24, 20))
    draw = ImageDraw.Draw(picture)
    x = 0.0
    while x < w:
        wide, top = float(rng.uniform(0.018, 0.05)) / texel_m, h * float(rng.uniform(0.02, 0.28))
        ink, second = (INKS[int(k)] for k in rng.choice(len(INKS), 2, replace=False))
        draw.rectangle([x, top, x + wide - 1, h], fill=ink)
        for at in rng.uniform(0.1, 0.95, int(rng.integers(1, 5))):
            y = top + float(at) * (h - top)
            draw.rectangle([x, y, x + wide - 1, y + float(rng.uniform(0.002, 0.012)) / texel_m], fill=second)
        for at in np.arange(0.25, 0.75, 0.07):
            if rng.random() < 0.7:
                y, inset = top + float(at) * (h - top), wide * float(rng.uniform(0.25, 0.4))
                draw.rectangle([x + inset, y, x + wide - inset, y + 0.009 / texel_m], fill=second)
        draw.line([x, top, x, h], (24, 20, 18), max(1, int(0.002 / texel_m)))
        x += wide
    return _shade(np.asarray(picture) / 255.0, 1.0 + 0.16 * _clouds((h, w), texel_m, rng, 0.06, 4, 0.8))


def _outdoors(h: int, w: int, texel_m: float, rng: np.random.Generator) -> Float32Array:
    v = np.linspace(0.0, 1.0, h)[:, None, None]
    sky = np.array([0.62, 0.74, 0.88]) * (1.0 - 0.2 * v) + 0.2 * v
    clouds = np.clip(_clouds((h, w), texel_m, rng, 0.6, 4, 0.6), 0, 1)[..., None]
    leaves = _clouds((h, w), texel_m, rng, 0.12, 4, 0.8)
    ridge = 0.55 + 0.12 * _clouds((1, w), texel_m, rng, 0.5, 3)[0]
    trees = np.array([0.22, 0.33, 0.16]) * (1.0 + 0.5 * leaves[..., None])
    return np.clip(np.where(v > ridge[None, :, None], trees, sky + 0.25 * clouds), 0.03, 0.95).astype(np.float32)
