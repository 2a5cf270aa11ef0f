"""The colours of video frames as sRGB: matrices, wide gamuts, and the two curves of high dynamic range.

Sources: ITU-R BT.2100-2 (PQ and HLG), BT.2408-7 (reference white), BT.2390-10 section 5.4 (tone mapping), IEC 61966-2-1
(sRGB).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
ByteArray = npt.NDArray[np.uint8]
CodeArray = npt.NDArray[np.uint16]

WHITE_NITS = 203.0
"""Luminance of diffuse white in HDR (BT.2408): becomes the luminance of sRGB's white."""
PEAK_NITS = 1000.0
"""Luminance to which highlights are kept apart: the nominal peak of HLG, and of most displays that grade PQ."""

_MATRIX_UNSPECIFIED = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED."""
_HD_LINES = 720
"""Videos of that many lines and more that do not name their colour matrix use BT.709, smaller ones BT.601."""
_PQ, _HLG = 16, 18
"""FFmpeg's AVCOL_TRC_SMPTE2084 and AVCOL_TRC_ARIB_STD_B67."""
_CURVES = {_PQ: "PQ", _HLG: "HLG"}
_BT709, _BT2020, _DISPLAY_P3 = 1, 9, 12
"""FFmpeg's AVCOL_PRI_BT709, AVCOL_PRI_BT2020 and AVCOL_PRI_SMPTE432."""
_CHROMATICITIES = {
    _BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    _BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    _DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""x, y of red, green and blue; all with white D65."""
_D65 = (0.3127, 0.3290)
_BAND_PIXELS = 1 << 20
"""Pixels that are converted at once, which bounds memory."""
_CODES = 1 << 16


def hdr_name(frame: Any) -> str:
    """`PQ` or `HLG`, empty for standard dynamic range."""
    return _CURVES.get(int(frame.color_trc), "")


def srgb_of(frame: Any, width: int, height: int) -> ByteArray:
    """[height, width, 3] a frame of PyAV as sRGB of that size."""
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    matrix = None
    if int(frame.colorspace) == _MATRIX_UNSPECIFIED:
        matrix = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
        if transfer in _CURVES or primaries == _BT2020:
            matrix = Colorspace.BT2020
    if transfer in _CURVES and primaries not in _CHROMATICITIES:
        primaries = _BT2020
    wide = transfer in _CURVES or primaries in (_BT2020, _DISPLAY_P3)
    resized = (width, height) != (frame.width, frame.height)
    pixels: npt.NDArray[Any] = frame.reformat(
        width=width,
        height=height,
        format="rgb48le" if wide else "rgb24",
        src_colorspace=matrix,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC if resized else None,
    ).to_ndarray()
    return _converted(pixels, transfer, primaries) if wide else pixels


def _converted(codes: CodeArray, transfer: int, primaries: int) -> ByteArray:
    """`convert` in bands of rows."""
    rows = max(1, _BAND_PIXELS // codes.shape[1])
    result = np.empty(codes.shape, np.uint8)
    for row in range(0, len(codes), rows):
        result[row : row + rows] = convert(codes[row : row + rows], transfer, primaries)
    return result


def convert(codes: CodeArray, transfer: int, primaries: int) -> ByteArray:
    """R'G'B' of full range in 16 bits as 8-bit sRGB, tone-mapped where the transfer is PQ or HLG.

    The tone curve works on the largest of red, green and blue and scales all three alike, which keeps the hue.

    Args:
        codes: [..., 3].
        transfer, primaries: FFmpeg's numbers; the curve of other transfers is taken to be sRGB's own.
    """
    if transfer in _CURVES:
        nits = _pq_table()[codes] if transfer == _PQ else _hlg_nits(codes, primaries)
        largest = nits.max(-1)
        light = nits * (tone_mapped(largest) / np.maximum(largest, 1e-6))[..., None]
        light /= WHITE_NITS
    else:
        light = _srgb_table()[codes]
    light = light @ to_bt709(primaries).T.astype(np.float32)
    return _encode_table()[np.rint(_within_gamut(light) * (_CODES - 1)).astype(np.uint16)]


def pq_nits(signal: FloatArray) -> FloatArray:
    """Luminance of a PQ signal 0..1 (BT.2100 table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.asarray(signal) ** (1 / m2)
    return np.asarray(10000.0 * (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1))


def pq_signal(nits: FloatArray) -> FloatArray:
    """PQ signal 0..1 of a luminance (BT.2100 table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (np.maximum(nits, 0.0) / 10000.0) ** m1
    return np.asarray(((c1 + c2 * power) / (1 + c3 * power)) ** m2)


def hlg_scene(signal: FloatArray) -> FloatArray:
    """Scene light 0..1 of an HLG signal 0..1 (BT.2100 table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.asarray(signal)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def tone_mapped(nits: FloatArray) -> FloatArray:
    """Luminance on a display whose peak is `WHITE_NITS` (the EETF of BT.2390).

    In PQ signals: the identity below a knee, here at 96 nits, then a Hermite spline that reaches white at `PEAK_NITS`.
    """
    return np.interp(nits, *_tone_curve()).astype(np.float32)


@cache
def _tone_curve() -> tuple[FloatArray, FloatArray]:
    """[N] luminances before and after, dense enough for interpolation."""
    peak, white = (float(each) for each in pq_signal(np.array([PEAK_NITS, WHITE_NITS])))
    highest = white / peak
    knee = 1.5 * highest - 0.5
    signal = np.linspace(0.0, 1.0, 4097)
    t = np.clip((signal - knee) / (1 - knee), 0.0, 1.0)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * highest
    return pq_nits(signal * peak), pq_nits(np.where(signal < knee, signal, spline) * peak)


@cache
def to_bt709(primaries: int) -> FloatArray:
    """[3, 3] linear R, G, B with these primaries -> those of BT.709, which are sRGB's."""
    return np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(primaries if primaries in _CHROMATICITIES else _BT709)


def _to_xyz(primaries: int) -> FloatArray:
    """[3, 3] linear R, G, B -> X, Y, Z with Y = 1 for white (SMPTE RP 177)."""
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in _CHROMATICITIES[primaries]]).T
    white = np.array([_D65[0] / _D65[1], 1.0, (1 - _D65[0] - _D65[1]) / _D65[1]])
    return np.asarray(columns * np.linalg.solve(columns, white))


def _hlg_nits(codes: CodeArray, primaries: int) -> FloatArray:
    """[..., 3] light of a display with a peak of `PEAK_NITS`: the scene's light and the system gamma of 1.2."""
    scene = _hlg_table()[codes]
    luminance = scene @ _to_xyz(primaries)[1].astype(np.float32)
    return np.asarray(PEAK_NITS * scene * (luminance**0.2)[..., None], np.float32)


def _within_gamut(light: FloatArray) -> FloatArray:
    """[..., 3] linear colours moved towards the grey of the same luminance until all parts lie in 0..1."""
    grey = np.clip(light @ _to_xyz(_BT709)[1].astype(np.float32), 0.0, 1.0)[..., None]
    low, high = light.min(-1, keepdims=True), light.max(-1, keepdims=True)
    below = np.where(low < 0, grey / np.maximum(grey - low, 1e-9), 1.0)
    above = np.where(high > 1, (1 - grey) / np.maximum(high - grey, 1e-9), 1.0)
    return np.asarray(np.clip(grey + np.minimum(below, above) * (light - grey), 0.0, 1.0))


@cache
def _pq_table() -> FloatArray:
    return pq_nits(np.linspace(0.0, 1.0, _CODES)).astype(np.float32)


@cache
def _hlg_table() -> FloatArray:
    return hlg_scene(np.linspace(0.0, 1.0, _CODES)).astype(np.float32)


@cache
def _srgb_table() -> FloatArray:
    """[65536] linear light of sRGB values."""
    value = np.linspace(0.0, 1.0, _CODES)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


@cache
def _encode_table() -> ByteArray:
    """[65536] sRGB values of linear light."""
    light = np.linspace(0.0, 1.0, _CODES)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * value).astype(np.uint8))
