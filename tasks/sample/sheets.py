"""Surfaces of the room: sheets bent over a few vertices, each with a picture of its own that holds paint times light.

All light that a matt place sends out is the same towards every camera, so it is multiplied into the picture once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from tasks.sample.colour import LINEAR, to_linear, to_srgb
from tasks.sample.light import LIVING_ROOM, irradiance
from tasks.sample.noise import Float32Array, FloatArray

Painter = Callable[[int, int, float, np.random.Generator], Float32Array]
"""(rows, columns, metres a texel, random numbers) -> [rows, columns, 3] sRGB in [0, 1]."""

_BRIGHTEST = 2.0
"""Linear light of code 255 in a baked picture."""
_MOST_TEXELS = 2600
_OFFSET_M = 0.0008


@dataclass(frozen=True)
class Sheet:
    """A rectangle bent over a grid of points, seen from its outside as a picture is: columns right, rows down."""

    points: FloatArray
    """[M, N, 3] places in metres, evenly spaced in the picture; outside is where rows x columns points."""
    paint: Painter
    texel_m: float
    light_m: float = 0.05
    """Distance between the places whose light is computed."""
    casts: bool = True
    """Whether it throws shadows; the room's shell does not, or no light came in."""
    glow: float = 0.0
    """Light that it sends out by itself; 0 for a sheet that is lit."""

    @property
    def size_m(self) -> tuple[float, float]:
        """(height, width) along its longest column and row."""
        rows = np.linalg.norm(np.diff(self.points, axis=0), axis=2).sum(0).max()
        columns = np.linalg.norm(np.diff(self.points, axis=1), axis=2).sum(1).max()
        return float(rows), float(columns)

    @property
    def faces(self) -> int:
        """How many triangles it has in `sheet_mesh`."""
        rows, columns = self.points.shape[:2]
        return 2 * (int(rows) - 1) * (int(columns) - 1)

    def at(self, v: FloatArray, u: FloatArray) -> FloatArray:
        """[K, 3] places at shares (v down, u right) [K] of the sheet."""
        m, n = self.points.shape[:2]
        row, column = np.clip(v, 0, 1) * (m - 1), np.clip(u, 0, 1) * (n - 1)
        i, j = np.minimum(row.astype(np.int64), m - 2), np.minimum(column.astype(np.int64), n - 2)
        a, b = (row - i)[:, None], (column - j)[:, None]
        p = self.points
        upper = p[i, j] * (1 - b) + p[i, j + 1] * b
        return np.asarray(upper * (1 - a) + (p[i + 1, j] * (1 - b) + p[i + 1, j + 1] * b) * a)


def plane(origin: npt.ArrayLike, right: npt.ArrayLike, down: npt.ArrayLike, paint: Painter, texel_m: float) -> Sheet:
    """A flat sheet from its upper left corner [3] along two edges [3], as seen from its outside."""
    o, r, d = (np.asarray(each, dtype=np.float64) for each in (origin, right, down))
    return Sheet(np.stack([[o, o + r], [o + d, o + r + d]]), paint, texel_m)


def box(low: npt.ArrayLike, high: npt.ArrayLike, paint: Painter, texel_m: float, yaw: float = 0.0) -> list[Sheet]:
    """Four sides and the top of a box between two corners [3], turned by `yaw` radians about its own upright axis."""
    a, b = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    x, y, z = np.diag(b - a)
    sides = [
        ([a[0], a[1], b[2]], x, -z),
        ([b[0], b[1], b[2]], -x, -z),
        ([a[0], b[1], b[2]], -y, -z),
        ([b[0], a[1], b[2]], y, -z),
        ([a[0], b[1], b[2]], x, -y),
    ]
    middle = np.array([*(a + b)[:2] / 2.0, 0.0])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    made = [(turn @ (np.array(corner) - middle) + middle, turn @ right, turn @ down) for corner, right, down in sides]
    return [plane(corner, right, down, paint, texel_m) for corner, right, down in made]


def lathe(
    base: npt.ArrayLike, profile: Sequence[tuple[float, float]], paint: Painter, texel_m: float, sides: int = 28
) -> Sheet:
    """A turned body that stands at `base` [3].

    Args:
        profile: (radius, height) in metres from the top to the bottom.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, sides + 1)
    radius, height = np.array(profile).T
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], 1)
    points = radius[:, None, None] * ring + height[:, None, None] * np.array([0.0, 0.0, 1.0]) + np.asarray(base)
    return Sheet(points, paint, texel_m, light_m=0.02)


def sheet_mesh(sheets: Sequence[Sheet]) -> Mesh:
    """The triangles of all sheets, in their order (two a cell, cells row by row)."""
    vertices, faces, start = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for sheet in sheets:
        corner = start + np.arange(sheet.points[..., 0].size).reshape(sheet.points.shape[:2])
        a, b, c, d = (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:])
        cells = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], 2)
        vertices.append(sheet.points.reshape(-1, 3))
        faces.append(cells.reshape(-1, 3))
        start += corner.size
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


class LitSheets:
    """Sheets with their light in their pictures, looked up by face.

    Args:
        sheets: whose faces are numbered as in `sheet_mesh`.
        caster: what throws shadows.
        seed: chooses the random part of every picture.
    """

    def __init__(self, sheets: Sequence[Sheet], caster: RayCaster, seed: int) -> None:
        light = _bake_light(sheets, caster)
        pictures = [
            _bake_picture(sheet, each, np.random.default_rng([seed, number]))
            for number, (sheet, each) in enumerate(zip(sheets, light, strict=True))
        ]
        sizes = np.array([picture.shape[:2] for picture in pictures])
        self._texels = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        starts = np.cumsum([0, *(sizes[:-1, 0] * sizes[:-1, 1])])
        sheet = np.repeat(np.arange(len(sheets)), [each.faces for each in sheets])
        self._start = starts[sheet].astype(np.int32)
        self._size = sizes[sheet].astype(np.int32)
        self._origin = np.concatenate([_texture_corners(s, size) for s, size in zip(sheets, sizes, strict=True)])

    def lookup(self, face: npt.NDArray[np.int64], bary: Float32Array) -> Float32Array:
        """[N, 3] linear light that places (face [N], bary [N, 2] as in `Hits`) send out, bilinear between texels."""
        # take is several times as fast as fancy indexing of rows
        corner, size, start = self._origin.take(face, 0), self._size.take(face, 0), self._start.take(face)
        a, b = bary[:, 0], bary[:, 1]
        row = corner[:, 0] + a * corner[:, 2] + b * corner[:, 4] - np.float32(0.5)
        column = corner[:, 1] + a * corner[:, 3] + b * corner[:, 5] - np.float32(0.5)
        (top, bottom), down = _neighbours(row, size[:, 0])
        (left, right), across = _neighbours(column, size[:, 1])
        upper, lower = start + top * size[:, 1], start + bottom * size[:, 1]
        corners = [
            (upper + left, (1 - down) * (1 - across)),
            (upper + right, (1 - down) * across),
            (lower + left, down * (1 - across)),
            (lower + right, down * across),
        ]
        light = np.zeros((len(face), 3), np.float32)
        for texel, weight in corners:
            light += _CODES.take(self._texels.take(texel, 0)) * weight[:, None]
        return light


def _neighbours(
    place: Float32Array, size: npt.NDArray[np.int32]
) -> tuple[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]], Float32Array]:
    """The two texels [N] around places [N], inside 0..size - 1, and the second one's share."""
    first = np.floor(place)
    index = first.astype(np.int32)
    return (np.clip(index, 0, size - 1), np.clip(index + 1, 0, size - 1)), place - first


_CODES: Float32Array = LINEAR * np.float32(_BRIGHTEST)


def _texture_corners(sheet: Sheet, size: npt.NDArray[np.int64]) -> Float32Array:
    """[F, 6] of each face: (row, column) of its first corner in texels, and the steps to its other two corners."""
    m, n = sheet.points.shape[:2]
    i, j = (grid.ravel() for grid in np.mgrid[0 : m - 1, 0 : n - 1])
    step = size / [m - 1, n - 1]
    a, b, c, d = (np.stack([i + p, j + q], 1) * step for p, q in ((0, 0), (0, 1), (1, 0), (1, 1)))
    first, second = np.concatenate([a, c - a, b - a], 1), np.concatenate([b, c - b, d - b], 1)
    return np.stack([first, second], 1).reshape(-1, 6).astype(np.float32)


def _bake_light(sheets: Sequence[Sheet], caster: RayCaster) -> list[Float32Array]:
    """[gh, gw] light on a coarse grid of each sheet."""
    places, normals, shapes = [], [], []
    for sheet in sheets:
        height, width = sheet.size_m
        gh, gw = (int(np.clip(np.ceil(length / sheet.light_m), 2, 220)) for length in (height, width))
        v, u = (grid.ravel() for grid in np.mgrid[0:gh, 0:gw])
        v, u = (v + 0.5) / gh, (u + 0.5) / gw
        normal = np.cross(sheet.at(v + 1e-3, u) - sheet.at(v - 1e-3, u), sheet.at(v, u + 1e-3) - sheet.at(v, u - 1e-3))
        normals.append(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12))
        places.append(sheet.at(v, u))
        shapes.append((gh, gw))
    light = irradiance(caster, np.concatenate(places), np.concatenate(normals), _OFFSET_M, LIVING_ROOM)
    ends = np.cumsum([h * w for h, w in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(light, ends[:-1]), shapes, strict=True)]


def _bake_picture(sheet: Sheet, light: Float32Array, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """[h, w, 3] 8-bit codes of paint times light."""
    h, w = (int(np.clip(round(length / sheet.texel_m), 8, _MOST_TEXELS)) for length in sheet.size_m)
    paint = sheet.paint(h, w, sheet.texel_m, rng)
    if sheet.glow:
        shade = np.full((h, w), sheet.glow, np.float32)
    else:
        shade = np.asarray(Image.fromarray(light).resize((w, h), Image.Resampling.BILINEAR))
    picture = np.empty((h, w, 3), np.uint8)
    for top in range(0, h, 128):
        part = slice(top, top + 128)
        linear = to_linear(paint[part]) * shade[part, :, None] / _BRIGHTEST
        picture[part] = np.round(to_srgb(linear) * 255.0)
    return picture
