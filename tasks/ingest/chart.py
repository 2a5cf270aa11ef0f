"""The classic colour chart of 24 patches in a photo: where it is, and what its patches look like there.

Colours: X-Rite, "Colorimetric values for ColorChecker family of targets", the charts made since November 2014, CIE Lab
under D50; adapted to D65 by Bradford's method. A grid of patches is the chart if, in one of its four orientations, a
straight line for each channel takes the photo's values to the chart's: any light, exposure and usual tone curve pass,
other colours do not. A grid that only nearly fits is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.ingest.lattice import LEAST_CELLS, Lattice, find_lattices
from tasks.ingest.light import ByteArray, FloatArray, to_srgb
from tasks.ingest.refusals import colour_unsolved

ROWS, COLUMNS = 4, 6
NAMES = (
    *("dark skin", "light skin", "blue sky", "foliage", "blue flower", "bluish green"),
    *("orange", "purplish blue", "moderate red", "purple", "yellow green", "orange yellow"),
    *("blue", "green", "red", "yellow", "magenta", "cyan"),
    *("white 9.5", "neutral 8", "neutral 6.5", "neutral 5", "neutral 3.5", "black 2"),
)
_LAB = (
    *((37.54, 14.37, 14.92), (64.66, 19.27, 17.50), (49.32, -3.82, -22.54)),
    *((43.46, -12.74, 22.72), (54.94, 9.61, -24.79), (70.48, -32.26, -0.37)),
    *((62.73, 35.83, 56.50), (39.43, 10.75, -45.17), (50.57, 48.64, 16.67)),
    *((30.10, 22.54, -20.87), (71.77, -24.13, 58.19), (71.51, 18.24, 67.37)),
    *((28.37, 15.42, -49.80), (54.38, -39.72, 32.27), (42.43, 51.05, 28.62)),
    *((81.80, 2.67, 80.41), (50.63, 51.28, -14.12), (49.57, -29.71, -28.32)),
    *((95.19, -1.03, 2.93), (81.29, -0.57, 0.44), (66.89, -0.75, -0.06)),
    *((50.76, -0.13, 0.14), (35.63, -0.46, -0.48), (20.64, 0.07, -0.46)),
)
NEUTRAL = range(18, 24)
EXPOSING = frozenset({20, 21})
"""Neutral 6.5 and neutral 5: they tell the exposure."""

_PATCH = 0.87
"""Edge of a patch over the distance to the next."""
_INNER = 0.45
"""Share of that distance, around its centre, that is read."""
_READ, _GLANCED = 24, 6
"""Places read along an edge of a patch, to measure it and to see whether it may be one."""
_ON_CHART = 0.75
"""Share of a lattice's cells that must be patches of the chart."""
_OFF = 0.15
"""How far from its place a patch may lie, in distances to the next."""
_LONG_EDGES = (900, 1800, 3600, 7200)
"""Sizes in which a photo is searched: patches of 6 to 130 pixels are found in each."""
MOST_OFF = 18.0
"""8-bit values by which the patches may miss the chart's, root mean square. Other colours miss by 35 or more."""
_MARGIN = 1.4
"""How much worse any other orientation must be."""
HINT = "Photograph the chart larger, flat and without reflections, or mark its corners: `corners: [[x, y], ...]`."


@dataclass(frozen=True)
class Patch:
    """One patch as a photo shows it."""

    name: str
    pixels: ByteArray
    """[N, 3] sRGB of the photo."""
    light: FloatArray
    """[3] what the patch is: linear sRGB."""


@dataclass(frozen=True)
class Chart:
    """A chart in a photo."""

    patches: tuple[Patch, ...]
    """In the order of `NAMES`."""
    homography: FloatArray
    """[3, 3] from (column, row) of the chart, patches at whole numbers, to the photo's pixels."""
    off: float
    """Root mean square distance of the patches from the chart's colours, in 8-bit values, after the fit."""

    def neutrals(self) -> Iterator[tuple[Patch, bool]]:
        """The grey patches from white to black, and whether each tells the exposure."""
        for number in NEUTRAL:
            yield self.patches[number], number in EXPOSING


def reference_light() -> FloatArray:
    """[24, 3] the patches in linear sRGB; what lies outside sRGB is cut off."""
    lab = np.array(_LAB)
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], axis=1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.96422, 1.0, 0.82521)
    adapted = xyz @ np.array(_BRADFORD).T
    return np.asarray((adapted @ np.array(_XYZ_TO_SRGB).T).clip(0.0, 1.0))


_BRADFORD = (
    (0.9555766, -0.0230393, 0.0631636),
    (-0.0282895, 1.0099416, 0.0210077),
    (0.0122982, -0.0204830, 1.3299098),
)
"""XYZ under D50 -> XYZ under D65."""
_XYZ_TO_SRGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)


def find_chart(pixels: ByteArray, name: str) -> Chart:
    """The chart in a photo [H, W, 3].

    Raises DigitizeError(colour_unsolved) where there is none, or more than one place that may be it.
    """
    closest = np.inf
    for edge in _LONG_EDGES:
        scale = max(1.0, max(pixels.shape[:2]) / edge)
        size = (round(pixels.shape[1] / scale), round(pixels.shape[0] / scale))
        small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)) if scale > 1.0 else pixels
        for lattice in find_lattices(small):
            ranked = sorted(
                (_read(small, each, _GLANCED) for each in _placements(lattice)), key=lambda chart: chart.off
            )
            closest = min([closest, *(chart.off for chart in ranked[:1])])
            if ranked and _fits(ranked):
                zoom = np.diag([pixels.shape[1] / size[0], pixels.shape[0] / size[1], 1.0])
                return _read(pixels, zoom @ ranked[0].homography)
        if scale == 1.0:
            break
    found = "no grid of patches" if np.isinf(closest) else f"grids of other colours ({closest:.0f} of 255 off at best)"
    raise colour_unsolved(name, f"expected a colour chart of 24 patches in the photo, found {found}", HINT)


def given_chart(pixels: ByteArray, corners: Sequence[tuple[float, float]], name: str) -> Chart:
    """The chart whose corners are marked: the outer ones of dark skin, bluish green, black and white.

    Raises DigitizeError(colour_unsolved) where it is not inside the photo, or has other colours.
    """
    height, width = pixels.shape[:2]
    for x, y in corners:
        if not (0 <= x <= width and 0 <= y <= height):
            raise colour_unsolved(name, f"expected corners inside the photo ({width} x {height}), found [{x:g}, {y:g}]")
    low, right, down = -_PATCH / 2, COLUMNS - 1 + _PATCH / 2, ROWS - 1 + _PATCH / 2
    chart = _read(
        pixels, homography(np.array([(low, low), (right, low), (right, down), (low, down)]), np.array(corners))
    )
    if chart.off > MOST_OFF or not _is_ordered(chart):
        message = f"expected the colours of the chart between these corners, found others ({chart.off:.0f} of 255 off)"
        hint = "Mark the outer corners of the patches dark skin, bluish green, black and white, in this order."
        raise colour_unsolved(name, message, hint)
    return chart


def _fits(ranked: Sequence[Chart]) -> bool:
    """Whether the best of the ways to lay the chart on a lattice is the chart, and no other comes near."""
    best = ranked[0]
    second = ranked[1].off if len(ranked) > 1 else np.inf
    return best.off <= MOST_OFF and second >= _MARGIN * best.off and _is_ordered(best)


def _is_ordered(chart: Chart) -> bool:
    """Whether the grey patches get darker from white to black; of over-exposed ones two may be alike."""
    levels = [float(np.median(patch.pixels.mean(axis=1))) for patch, _ in chart.neutrals()]
    return all(one > other or one > 250 for one, other in pairwise(levels))


def _placements(lattice: Lattice) -> Iterator[FloatArray]:
    """The homographies that lay a chart on a lattice, in all four orientations, with most patches on its cells."""
    u, v = lattice.cells.T
    for columns, rows in ((u, v), (v, -u), (-u, -v), (-v, u)):
        for left in _starts(columns, COLUMNS):
            for top in _starts(rows, ROWS):
                at = np.stack([columns - left, rows - top], axis=1)
                inside = np.all((at >= 0) & (at < (COLUMNS, ROWS)), axis=1)
                if inside.sum() < max(LEAST_CELLS, _ON_CHART * len(at)):
                    continue
                places, centres = at[inside].astype(np.float64), lattice.centres[inside]
                laid = homography(places, centres)
                missed = np.linalg.norm(project(laid, places) - centres, axis=1)
                step = np.linalg.norm(project(laid, places + np.array((1.0, 0.0))) - project(laid, places), axis=1)
                near = missed <= _OFF * step
                if near.sum() >= LEAST_CELLS:
                    yield homography(places[near], centres[near])


def _starts(places: npt.NDArray[np.int64], count: int) -> range:
    """Where the first of `count` rows or columns may be among the places of a lattice."""
    first, last = int(places.min()), int(places.max()) - count + 1
    return range(min(first, last), max(first, last) + 1)


def homography(places: FloatArray, pixels: FloatArray) -> FloatArray:
    """[3, 3] what takes `places` [N, 2] to `pixels` [N, 2], N >= 4: the direct linear transformation on normalised
    coordinates (Hartley and Zisserman, "Multiple View Geometry", algorithm 4.2)."""
    from_places, from_pixels = _normalising(places), _normalising(pixels)
    x, y = project(from_places, places).T
    u, v = project(from_pixels, pixels).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = [
        np.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], axis=1),
        np.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], axis=1),
    ]
    solved = np.linalg.svd(np.concatenate(rows))[2][-1].reshape(3, 3)
    laid = np.linalg.inv(from_pixels) @ solved @ from_places
    return np.asarray(laid / (laid @ (*places.mean(axis=0), 1.0))[2])


def _normalising(points: FloatArray) -> FloatArray:
    centre = points.mean(axis=0)
    scale = np.sqrt(2) / max(float(np.linalg.norm(points - centre, axis=1).mean()), 1e-12)
    return np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1]])


def project(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """[N, 2] where a homography takes points [N, 2]; not a number beyond its horizon."""
    x, y, w = matrix @ np.concatenate([points, np.ones((len(points), 1))], axis=1).T
    before = np.where(w > 0, w, np.nan)
    return np.stack([x / before, y / before], axis=1)


def _read(pixels: ByteArray, laid: FloatArray, along: int = _READ) -> Chart:
    """The chart that lies in a photo as a homography says; infinitely off where that is not inside."""
    height, width = pixels.shape[:2]
    steps = (np.arange(along) + 0.5) / along - 0.5
    inner = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * _INNER
    middles = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), axis=-1).reshape(-1, 1, 2)
    places = project(laid, (middles + inner).reshape(-1, 2))
    inside = bool(np.all((places >= 0) & (places < (width, height))))
    column, row = (places if inside else np.zeros_like(places)).astype(np.int64).T
    values = pixels[row, column].reshape(ROWS * COLUMNS, -1, 3)
    light = reference_light()
    patches = tuple(Patch(*each) for each in zip(NAMES, values, light, strict=True))
    return Chart(patches, laid, _off(np.median(values, axis=1), to_srgb(light)) if inside else np.inf)


def _off(found: FloatArray, wanted: FloatArray) -> float:
    """Root mean square distance of patches [24, 3] from the chart's after a straight line for each channel."""
    residuals = []
    for have, want in zip(found.T, wanted.T, strict=True):
        spread = float(np.var(have))
        slope = float(np.mean((have - have.mean()) * (want - want.mean()))) / spread if spread > 1.0 else 0.0
        if slope <= 0:
            return np.inf
        residuals.append(want - want.mean() - slope * (have - have.mean()))
    return float(np.sqrt(np.mean(np.square(residuals))))
