"""White balance and exposure of a capture, from one photo of a surface whose colour is known.

All photos of a capture count as taken in one light with one exposure, so one correction is measured and applied to all:
a gain for each channel, in linear light (sRGB decoded as IEC 61966-2-1 has it), the same everywhere. Values beyond
white are clipped at 255: a highlight that was clipped before has the tint of the gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.colour import ChartColour, GreyColour, GreyPatch
from tasks.ingest.chart import Chart, find_chart, given_chart
from tasks.ingest.light import ByteArray, FloatArray, to_linear, to_srgb
from tasks.ingest.refusals import colour_unsolved

CLIPPED = 250
"""Values of 8 bits from which on a sensor or its picture may have been full."""
TOO_DARK = 12
"""Values below which noise and rounding are a large part."""
_MOST_BAD = 0.05
"""Share of a patch's pixels that may be clipped or dark."""
_MOST_SPREAD = 0.25
"""Interquartile range of a patch over its median, in linear light: more is not one surface in one light."""
_MOST_GAIN = 8.0
_AROUND = 2
"""Pixels around a marked place that count, in each direction."""


@dataclass(frozen=True)
class Correction:
    """What every photo of a capture is multiplied by, in linear light."""

    white_balance: tuple[float, float, float]
    """Of red, green and blue; green is 1."""
    exposure: float
    source: str
    """`chart in IMG_0012.jpg`."""

    def __str__(self) -> str:
        balance = " ".join(f"{gain:.2f}" for gain in self.white_balance)
        return f"white balance {balance}, exposure {self.exposure:.2f} from {self.source}"

    @property
    def gains(self) -> FloatArray:
        """[3] of red, green and blue."""
        return np.array(self.white_balance) * self.exposure

    def apply(self, image: Image.Image) -> Image.Image:
        """The corrected picture of an 8-bit sRGB picture (mode RGB)."""
        curve = to_linear(np.arange(256, dtype=np.uint8))
        table = [round(value) for gain in self.gains for value in to_srgb(curve * gain)]
        return image.point(table)


def measure(image: Image.Image, reference: GreyColour | ChartColour, name: str) -> Correction:
    """The correction that a photo tells.

    Args:
        image: upright RGB picture at its original size.
        name: of the photo.

    Raises DigitizeError(colour_unsolved) where the patch or the chart does not tell it.
    """
    pixels = np.asarray(image)
    if isinstance(reference, ChartColour):
        corners = reference.chart.corners
        return of_chart(find_chart(pixels, name) if corners is None else given_chart(pixels, corners, name), name)
    values = _grey_pixels(pixels, reference.grey, name)
    light = patch_light(values, "the grey patch", name)[None]
    target = np.full((1, 3), reference.reflectance)
    return _correction(light, target, light, target, f"grey patch in {name}", name)


def of_chart(chart: Chart, name: str) -> Correction:
    """The correction from the grey row of a chart: white balance from its patches that are neither over-exposed nor
    too dark, exposure from neutral 6.5 and neutral 5, which must be neither."""
    light, target, exposing = [], [], []
    for patch, is_exposing in chart.neutrals():
        if is_exposing or not _fault(patch.pixels):
            light.append(patch_light(patch.pixels, f"patch {patch.name} of the chart", name))
            target.append(patch.light)
            exposing.append(is_exposing)
    lights, targets, mids = np.array(light), np.array(target), np.array(exposing)
    return _correction(lights, targets, lights[mids], targets[mids], f"chart in {name}", name)


def _correction(
    light: FloatArray, target: FloatArray, mid: FloatArray, wanted: FloatArray, source: str, name: str
) -> Correction:
    """The gains that take measured patches [N, 3] to what they are [N, 3]; `mid` and `wanted` tell the exposure."""
    ratio = target / light
    balance = np.median(ratio / ratio[:, 1:2], axis=0)
    exposure = float(np.median(wanted / (mid * balance)))
    if max(*balance, exposure) > _MOST_GAIN or min(*balance, exposure) < 1 / _MOST_GAIN:
        factors = " ".join(f"{factor:.2f}" for factor in (*balance, exposure))
        raise colour_unsolved(name, f"expected a neutral surface, found one that asks for the factors {factors}")
    red, green, blue = (round(float(gain), 4) for gain in balance)
    return Correction((red, green, blue), round(exposure, 4), source)


def patch_light(values: ByteArray, what: str, name: str) -> FloatArray:
    """[3] the light of a patch's pixels [N, 3]: the mean of each channel's middle half, finer than steps of 8 bits.

    Raises DigitizeError(colour_unsolved) that names the patch where it is over-exposed, too dark or not even.
    """
    if fault := _fault(values):
        raise colour_unsolved(name, f"expected {what} well exposed and evenly lit, found it {fault}")
    quarter = len(values) // 4
    return np.asarray(np.sort(to_linear(values), axis=0)[quarter : len(values) - quarter].mean(axis=0))


def _fault(values: ByteArray) -> str:
    """Why the pixels [N, 3] of a patch tell nothing; empty where they do."""
    middle = np.median(values, axis=0)
    found = f"(its red, green and blue are {' '.join(f'{value:.0f}' for value in middle)})"
    if float(np.mean(np.any(values >= CLIPPED, axis=1))) > _MOST_BAD:
        return f"over-exposed {found}"
    if middle.min() < TOO_DARK:
        return f"too dark {found}"
    low, centre, high = np.percentile(to_linear(values), (25, 50, 75), axis=0)
    if float(np.max((high - low) / centre)) > _MOST_SPREAD:
        return f"uneven {found}"
    return ""


def _grey_pixels(pixels: ByteArray, patch: GreyPatch, name: str) -> ByteArray:
    """[N, 3] the pixels that a patch marks."""
    height, width = pixels.shape[:2]
    if patch.box is not None:
        _check_inside(((patch.box[0], patch.box[1]), (patch.box[2], patch.box[3])), width, height, name)
        x0, y0 = (int(edge) for edge in patch.box[:2])
        x1, y1 = (max(int(np.ceil(edge)), first + 1) for edge, first in zip(patch.box[2:], (x0, y0), strict=True))
        return pixels[y0:y1, x0:x1].reshape(-1, 3)
    _check_inside(patch.pixels, width, height, name)
    parts = []
    for x, y in patch.pixels:
        column, row = min(int(x), width - 1), min(int(y), height - 1)
        window = pixels[max(row - _AROUND, 0) : row + _AROUND + 1, max(column - _AROUND, 0) : column + _AROUND + 1]
        parts.append(window.reshape(-1, 3))
    return np.concatenate(parts)


def _check_inside(places: Sequence[tuple[float, float]], width: int, height: int, name: str) -> None:
    for x, y in places:
        if not (0 <= x <= width and 0 <= y <= height):
            raise colour_unsolved(name, f"expected a patch inside the photo ({width} x {height}), found [{x:g}, {y:g}]")
