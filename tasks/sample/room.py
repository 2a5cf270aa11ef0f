"""A lived-in room around the object: table with a printed mat and things on it, furniture, shelves, pictures.

The table stands in the middle and its mat lies at z = 0; the photographer walks around it. Whatever is nearer than
0.5 m is lower than the lowest camera looks from, so that nothing hides much of the object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from tasks.sample import prints
from tasks.sample.mat import MAT_RADIUS_M, draw_mat
from tasks.sample.noise import Float32Array
from tasks.sample.sheets import Painter, Sheet, box, lathe, plane

TABLE_Z_M = -0.0015
"""The table's top: below the mat by the thickness of its paper."""
FLOOR_Z_M = -0.74
_CEILING_Z_M = 1.76
_HALF_X_M, _HALF_Y_M = 1.9, 1.7
_TABLE_HALF_M = (0.78, 0.56)


def furnish(seed: int) -> list[Sheet]:
    """All sheets of the room; the seed moves and paints the things in it."""
    rng = np.random.default_rng(seed + 30)
    sheets = [_mat(seed), *_table(rng), *_shell(rng)]
    sheets += [*_near_things(rng), *_tall_things(rng)]
    sheets += [*_chairs(rng), *_shelf(rng), *_sofa(rng), *_cabinet(rng), *_boxes(rng), *_plant(rng), *_pictures(rng)]
    return sheets


def _mat(seed: int) -> Sheet:
    r = MAT_RADIUS_M

    def paint(h: int, w: int, texel_m: float, rng: np.random.Generator) -> Float32Array:
        # each texel the mean of the print's pixels, so that one sample a pixel does not alias
        print_ = Image.fromarray(draw_mat(seed)).resize((w, h), Image.Resampling.BOX)
        return (np.asarray(print_) / 255.0).astype(np.float32)

    flat = plane((-r, r, 0.0), (2 * r, 0, 0), (0, -2 * r, 0), paint, 0.0004)
    return replace(flat, light_m=0.0025, casts=False)


def _table(rng: np.random.Generator) -> list[Sheet]:
    x, y = _TABLE_HALF_M
    wooden = prints.wood() if rng.random() < 0.6 else prints.wood((84, 58, 42), (142, 100, 66))
    top, *_ = reversed(box((-x, -y, TABLE_Z_M - 0.04), (x, y, TABLE_Z_M), wooden, 0.0008))
    sides = box((-x, -y, TABLE_Z_M - 0.04), (x, y, TABLE_Z_M), prints.wood(), 0.002)[:4]
    runner = prints.cloth(((150, 62, 48), (206, 196, 172), (52, 60, 92), (196, 150, 70)), 0.05)
    cloth = plane((0.42, y - 0.02, TABLE_Z_M + 0.001), (0.3, 0, 0), (0, -2 * y + 0.04, 0), runner, 0.0008)
    legs = [
        sheet
        for sx in (-1, 1)
        for sy in (-1, 1)
        for sheet in _standing(sx * (x - 0.07), sy * (y - 0.07), 0.06, 0.06, FLOOR_Z_M, -0.04, prints.wood(), 0.003)
    ]
    return [replace(top, light_m=0.008), *sides, replace(cloth, light_m=0.012, casts=False), *legs]


def _shell(rng: np.random.Generator) -> list[Sheet]:
    """Floor with a carpet, ceiling, and four walls; they throw no shadows, or no light came in."""
    x, y, low, high = _HALF_X_M, _HALF_Y_M, FLOOR_Z_M, _CEILING_Z_M
    papers = [
        prints.wallpaper((196, 186, 160), (168, 150, 120), (120, 84, 70)),
        prints.wallpaper((150, 166, 160), (122, 142, 140), (212, 200, 168)),
        prints.wallpaper((190, 170, 150), (160, 120, 100), (84, 92, 60)),
        prints.wallpaper((176, 180, 190), (140, 146, 164), (150, 62, 48)),
    ]
    order, tall = rng.permutation(4), high - low
    walls = [
        plane((-x, y, high), (2 * x, 0, 0), (0, 0, -tall), papers[order[0]], 0.0025),
        plane((x, -y, high), (-2 * x, 0, 0), (0, 0, -tall), papers[order[1]], 0.0025),
        plane((-x, -y, high), (0, 2 * y, 0), (0, 0, -tall), papers[order[2]], 0.0025),
        plane((x, y, high), (0, -2 * y, 0), (0, 0, -tall), papers[order[3]], 0.0025),
    ]
    floor = plane((-x, y, low), (2 * x, 0, 0), (0, -2 * y, 0), prints.wood((92, 66, 46), (150, 112, 78), 0.09), 0.0025)
    rug = prints.cloth(((132, 40, 60), (52, 60, 92), (206, 196, 172), (196, 150, 70), (44, 44, 48)), 0.16)
    carpet = plane((-1.35, 1.15, low + 0.004), (2.7, 0, 0), (0, -2.3, 0), rug, 0.0025)
    ceiling = plane((-x, -y, high), (2 * x, 0, 0), (0, 2 * y, 0), prints.lacquer((210, 206, 198)), 0.006)
    return [replace(sheet, casts=False) for sheet in (*walls, floor, carpet, ceiling)]


def _standing(
    x: float, y: float, wide: float, deep: float, low: float, high: float, paint: Painter, texel_m: float,
    yaw: float = 0.0,
) -> list[Sheet]:  # fmt: skip
    """A box by its middle and its size across x and y."""
    a, b = (x - wide / 2, y - deep / 2, low), (x + wide / 2, y + deep / 2, high)
    return [replace(each, light_m=0.04) for each in box(a, b, paint, texel_m, yaw)]


def _near_things(rng: np.random.Generator) -> list[Sheet]:
    """Low things on the table around the mat."""
    z, fine, sheets = TABLE_Z_M, 0.0006, list[Sheet]()
    spots = [(np.radians(float(a + rng.uniform(-7, 7))), float(rng.uniform(0.35, 0.43))) for a in range(10, 370, 40)]
    kinds = rng.permutation(len(spots))
    makers: list[Callable[[float, float], list[Sheet]]] = [
        lambda x, y: _books(rng, x, y, z, 3),
        lambda x, y: _books(rng, x, y, z, 2),
        lambda x, y: [lathe((x, y, z), _MUG, prints.poster(1), fine)],
        lambda x, y: _standing(x, y, 0.12, 0.08, z, z + 0.05, prints.poster(2), fine, float(rng.uniform(0, 3))),
        lambda x, y: _standing(x, y, 0.15, 0.21, z, z + 0.004, prints.poster(5), fine, float(rng.uniform(0, 3))),
        lambda x, y: [lathe((x, y, z), _ball(0.035), prints.poster(0), fine)],
        lambda x, y: [lathe((x, y, z), _POT, prints.cloth(((170, 112, 84), (132, 40, 60)), 0.01), fine)],
        lambda x, y: _standing(x, y, 0.17, 0.02, z, z + 0.018, prints.lacquer((196, 150, 70), 900), fine, 1.1),
        lambda x, y: [lathe((x, y, z), _ball(0.028), prints.lacquer((150, 62, 48), 3000), fine)],
    ]
    for (angle, radius), kind in zip(spots, kinds, strict=True):
        sheets += makers[kind](radius * float(np.cos(angle)) * 1.12, radius * float(np.sin(angle)))
    return [replace(sheet, light_m=min(sheet.light_m, 0.01)) for sheet in sheets]


_MUG = ((0.0, 0.088), (0.030, 0.088), (0.0385, 0.092), (0.041, 0.090), (0.041, 0.045), (0.038, 0.006), (0.034, 0.0))
_POT = ((0.0, 0.062), (0.040, 0.064), (0.048, 0.070), (0.048, 0.058), (0.043, 0.056), (0.032, 0.0))
_BOTTLE = ((0.0, 0.30), (0.014, 0.30), (0.015, 0.22), (0.035, 0.17), (0.038, 0.14), (0.038, 0.0))
_VASE = ((0.0, 0.20), (0.03, 0.215), (0.022, 0.17), (0.055, 0.10), (0.06, 0.06), (0.035, 0.0))
_LAMP = ((0.0, 0.40), (0.07, 0.40), (0.12, 0.24), (0.012, 0.24), (0.012, 0.02), (0.07, 0.015), (0.075, 0.0))


def _ball(radius: float) -> list[tuple[float, float]]:
    turn = np.linspace(0.0, np.pi, 15)
    return [(radius * float(np.sin(a)), radius * (1.0 + float(np.cos(a)))) for a in turn]


def _books(rng: np.random.Generator, x: float, y: float, z: float, count: int) -> list[Sheet]:
    sheets, base, yaw = list[Sheet](), z, float(rng.uniform(0, np.pi))
    for _ in range(count):
        thick, wide, deep = rng.uniform(0.014, 0.028), rng.uniform(0.12, 0.16), rng.uniform(0.09, 0.12)
        turn = yaw + float(rng.uniform(-0.25, 0.25))
        sheets += _standing(x, y, float(wide), float(deep), base, base + float(thick), prints.poster(2), 0.0006, turn)
        base += float(thick)
    return sheets


def _tall_things(rng: np.random.Generator) -> list[Sheet]:
    """Bottle, vase, lamp and packets at the table's corners, behind the photographer's path."""
    z = TABLE_Z_M
    corners = [
        (sx * float(rng.uniform(0.60, 0.68)), sy * float(rng.uniform(0.36, 0.44))) for sx in (-1, 1) for sy in (-1, 1)
    ]
    corners = [corners[k] for k in rng.permutation(4)]
    bottle = lathe((*corners[0], z), _BOTTLE, prints.poster(3), 0.001)
    vase = lathe((*corners[1], z), _VASE, prints.cloth(((96, 128, 160), (222, 214, 200), (52, 60, 92)), 0.02), 0.001)
    lamp = lathe((*corners[2], z), _LAMP, prints.lacquer((206, 196, 172), 1500), 0.001)
    x, y = corners[3]
    packet = _standing(x, y, 0.16, 0.06, z, z + 0.24, prints.poster(4), 0.001, float(rng.uniform(0, np.pi)))
    return [bottle, vase, lamp, *packet]


def _chairs(rng: np.random.Generator) -> list[Sheet]:
    sheets: list[Sheet] = []
    paint = prints.wood((120, 84, 52), (190, 146, 96))
    seat = prints.cloth(((84, 92, 60), (206, 196, 172), (74, 110, 88)), 0.04)
    for about_x, about_y, back in ((0.3, -0.85, -1), (-0.35, 0.85, 1), (-1.05, 0.1, 0)):
        x, y = about_x + float(rng.uniform(-0.08, 0.08)), about_y + float(rng.uniform(-0.04, 0.04))
        sheets += _standing(x, y, 0.42, 0.42, -0.30, -0.26, seat, 0.0015)
        for sx in (-0.18, 0.18):
            for sy in (-0.18, 0.18):
                sheets += _standing(x + sx, y + sy, 0.035, 0.035, FLOOR_Z_M, -0.30, paint, 0.003)
        across, dx, dy = (0.03, -0.2, 0.0) if back == 0 else (0.42, 0.0, 0.2 * back)
        for low, high in ((-0.12, -0.04), (0.02, 0.12)):
            sheets += _standing(x + dx, y + dy, across, 0.42 if back == 0 else 0.03, low, high, paint, 0.0015)
        for k in (-0.19, 0.19):
            px, py = (x + dx, y + k) if back == 0 else (x + k, y + dy)
            sheets += _standing(px, py, 0.03, 0.03, -0.30, 0.14, paint, 0.003)
    return sheets


def _shelf(rng: np.random.Generator) -> list[Sheet]:
    """Shelves with books along the wall at +y."""
    sheets: list[Sheet] = []
    front, back, left, right = _HALF_Y_M - 0.28, _HALF_Y_M - 0.01, -0.6, 1.2
    board = prints.wood((84, 58, 42), (130, 92, 62))
    for k in range(6):
        z = FLOOR_Z_M + 0.05 + 0.33 * k
        sheets += box((left, front, z), (right, back, z + 0.025), board, 0.003)
        if k == 5:
            break
        x = left + 0.03
        while x < right - 0.3:
            wide = float(rng.uniform(0.25, 0.6))
            if rng.random() < 0.8:
                end, tall = min(x + wide, right - 0.03), float(rng.uniform(0.20, 0.28))
                low = (x, front + float(rng.uniform(0.02, 0.06)), z + 0.025)
                sheets += box(low, (end, back - 0.02, z + 0.025 + tall), prints.book_backs(), 0.0018)
            else:
                sheets.append(lathe((x + 0.12, front + 0.12, z + 0.025), _VASE, prints.poster(1), 0.002))
            x += wide + 0.02
    for x in (left - 0.025, right):
        sheets += box((x, front, FLOOR_Z_M), (x + 0.025, back, FLOOR_Z_M + 1.75), board, 0.003)
    return sheets


def _sofa(rng: np.random.Generator) -> list[Sheet]:
    wool = prints.cloth(((84, 92, 60), (74, 110, 88), (112, 82, 110)), 0.05)
    x, low = -_HALF_X_M, FLOOR_Z_M
    sheets = box((x + 0.02, -1.2, low), (x + 0.75, 0.5, low + 0.40), wool, 0.002)
    sheets += box((x + 0.02, -1.2, low + 0.40), (x + 0.25, 0.5, low + 0.85), wool, 0.002)
    for y in (-1.38, 0.5):
        sheets += box((x + 0.02, y, low), (x + 0.75, y + 0.18, low + 0.6), wool, 0.002)
    for k in range(3):
        y = -1.0 + 0.5 * k + float(rng.uniform(-0.1, 0.1))
        sheets += _standing(
            x + 0.36, y, 0.12, 0.38, low + 0.40, low + 0.74, prints.poster(0), 0.002, float(rng.uniform(-0.3, 0.3))
        )
    return sheets


def _cabinet(rng: np.random.Generator) -> list[Sheet]:
    """A chest of drawers at +x, with things on it."""
    x, low = _HALF_X_M, FLOOR_Z_M
    wooden = prints.wood((120, 70, 40), (176, 116, 70))
    sheets = box((x - 0.45, -0.9, low), (x - 0.02, 0.3, low + 0.82), wooden, 0.002)
    for row in range(3):
        for column in range(2):
            y, z = -0.86 + 0.58 * column, low + 0.06 + 0.25 * row
            sheets += box((x - 0.465, y, z), (x - 0.45, y + 0.54, z + 0.22), prints.lacquer((160, 108, 66), 60), 0.002)
            sheets += box(
                (x - 0.485, y + 0.22, z + 0.1), (x - 0.465, y + 0.32, z + 0.125), prints.lacquer((44, 44, 48)), 0.003
            )
    for y in (-0.75, -0.35, 0.05):
        if rng.random() < 0.5:
            sheets += _standing(
                x - 0.22, y, 0.2, 0.26, low + 0.82, low + 0.98, prints.poster(3), 0.0015, float(rng.uniform(0, 1))
            )
        else:
            sheets.append(lathe((x - 0.22, y, low + 0.82), _VASE, prints.poster(1), 0.0015))
    return sheets


def _boxes(rng: np.random.Generator) -> list[Sheet]:
    """Packets and books on the floor."""
    sheets: list[Sheet] = []
    for x, y in ((-1.2, 1.25), (1.3, 1.0), (1.25, -1.25), (-0.7, -1.35), (0.95, 0.45)):
        wide, deep, tall = (float(each) for each in rng.uniform((0.2, 0.2, 0.15), (0.45, 0.4, 0.5)))
        sheets += _standing(
            x, y, wide, deep, FLOOR_Z_M, FLOOR_Z_M + tall, prints.poster(3), 0.002, float(rng.uniform(0, 3))
        )
    return sheets


def _plant(rng: np.random.Generator) -> list[Sheet]:
    green = prints.cloth(((40, 70, 36), (84, 110, 60), (60, 92, 50)), 0.03)
    pot = ((0.0, 0.30), (0.15, 0.30), (0.17, 0.34), (0.12, 0.0))
    sheets = [lathe((-1.6, 1.4, FLOOR_Z_M), pot, prints.cloth(((170, 112, 84), (132, 72, 50)), 0.03), 0.002)]
    for _ in range(26):
        at = np.array([-1.6, 1.4, FLOOR_Z_M + 0.85]) + rng.normal(0, 0.14, 3) * [0.8, 0.7, 1.6]
        sheets.append(lathe(at - [0, 0, 0.05], _ball(float(rng.uniform(0.03, 0.085))), green, 0.003, sides=9))
    return sheets


def _pictures(rng: np.random.Generator) -> list[Sheet]:
    """Framed pictures on every wall, and a bright window at -x."""
    sheets: list[Sheet] = []
    x, y = _HALF_X_M, _HALF_Y_M
    frame = prints.wood((60, 44, 32), (110, 80, 52))
    for k in range(14):
        wide, tall = (float(each) for each in rng.uniform((0.3, 0.3), (0.62, 0.55)))
        wall, z = k % 3, 0.1 + 0.72 * ((k // 3) % 2) + float(rng.uniform(-0.05, 0.05))
        along = (-1.35, -0.55, 0.3, 1.1, 1.45)[k // 3] + float(rng.uniform(-0.06, 0.06))
        middle = np.array([(-along, -y, z), (x, along, z), (-along, y, z)][wall])
        right = np.array([(-1.0, 0, 0), (0, -1.0, 0), (1.0, 0, 0)][wall])
        inward = np.array([(0, 1.0, 0), (-1.0, 0, 0), (0, -1.0, 0)][wall])
        for depth, grow, paint in ((0.012, 0.035, frame), (0.014, 0.0, prints.poster(2))):
            w, h = wide + 2 * grow, tall + 2 * grow
            corner = middle + inward * depth - right * w / 2 + np.array([0, 0, h / 2])
            sheets.append(replace(plane(corner, right * w, (0, 0, -h), paint, 0.0018), casts=False))
    window = plane((-x + 0.01, -0.9, 1.45), (0, 1.5, 0), (0, 0, -1.05), prints.outdoors(), 0.003)
    sheets.append(replace(window, glow=1.6, casts=False))
    for y_bar in (-0.93, -0.18, 0.57):
        sheets += box((-x, y_bar, 0.36), (-x + 0.05, y_bar + 0.06, 1.5), prints.lacquer((206, 200, 186)), 0.003)
    sheets += box((-x, -0.97, 0.36), (-x + 0.09, 0.67, 0.40), prints.lacquer((206, 200, 186)), 0.003)
    return sheets
