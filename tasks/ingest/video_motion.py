"""How far the picture of a video moves, from small grey pictures."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tasks.ingest.measure import FloatArray, halved

_EDGE_PX = 400
"""Grey pictures with a longer edge are halved until they are no longer."""
_TILE_PX = 64
_BAND = 0.12
"""Standard deviation of the Gaussian low-pass in cycles a pixel: the finer detail is noise and coding."""
_TEXTURE = 3.0
"""Grey levels of standard deviation below which a tile is flat."""
_COHERENT = 0.2
"""Height of the peak from which a tile's displacement is believed. Identical tiles give 1; of unrelated ones, whose
about 700 frequencies below `_BAND` have random phases, the highest of all peaks stays below 0.15."""
_MOVES_PX = 0.75
"""Displacement from which a tile moves: still scenes, coded anew in each frame, stay below."""
_FEWEST = 3
"""Tiles that move before the picture does."""
_UPPER = 75.0
"""Percentile of the tiles that move."""
_RENEW_PX = 4.0
"""Displacement at which the reference is renewed: the tiles still overlap by more than 9 tenths."""
_LIKE = 0.95
"""Correlation of coarse pictures above which they show the same, whatever the tiles say."""
_COARSE_PX = 8
_DEAD_ZONE = 2.0
"""Grey levels of difference that coding and noise make."""

_Complex = npt.NDArray[np.complexfloating]


class MotionMeter:
    """The new displacement of each frame of a video.

    Each frame is compared with a reference, an earlier frame that is renewed once the picture has moved by 4 pixels.
    Only displacement beyond the largest since then counts. Errors and the trembling of a hand therefore do not add up
    over the frames of a rest, as they would from frame to frame, and slow motion is not lost.

    Displacement is measured by phase correlation (Kuglin and Hines 1975) of overlapping tiles. It is the upper quartile
    of the tiles that move: of the magnitudes, so that rolling and coming closer count; of those that move, because an
    object on a turntable fills few tiles before a still background; the upper one, because the background behind a
    turntable may tremble.
    """

    def __init__(self) -> None:
        self._reference: _Tiles | None = None
        self._farthest = 0.0

    def add(self, grey: FloatArray) -> float:
        """New displacement in this frame as share of the long edge; nan where it cannot be measured, as at a cut.

        Args:
            grey: [H, W] grey levels 0..255, the same size for all frames; another size counts as a cut.
        """
        while max(grey.shape) > _EDGE_PX:
            grey = halved(grey)
        now, before = _Tiles(grey), self._reference
        if before is None:
            self._renew(now)
            return 0.0
        moved = _displacement(before, now) if before.grey.shape == grey.shape else float("nan")
        if math.isnan(moved):
            self._renew(now)
            return moved
        new = max(0.0, moved - self._farthest)
        self._farthest = max(self._farthest, moved)
        if moved >= _RENEW_PX:
            self._renew(now)
        return float(new / max(grey.shape))

    def _renew(self, tiles: _Tiles) -> None:
        self._reference, self._farthest = tiles, 0.0


class _Tiles:
    """A picture and the spectra of its tiles."""

    def __init__(self, grey: FloatArray) -> None:
        short = [max(0, _TILE_PX - side) for side in grey.shape]
        self.grey = np.pad(grey, ((0, short[0]), (0, short[1])), mode="edge") if any(short) else grey
        views = np.lib.stride_tricks.sliding_window_view(self.grey, (_TILE_PX, _TILE_PX))
        rows, columns = (_places(side) for side in self.grey.shape)
        self.tiles: FloatArray = views[np.ix_(rows, columns)].reshape(-1, _TILE_PX, _TILE_PX)
        flat = self.tiles - self.tiles.mean((1, 2), keepdims=True)
        self.textured = np.einsum("nij,nij->n", flat, flat) > (_TEXTURE * _TILE_PX) ** 2
        self.spectra: _Complex = np.fft.rfft2(flat * _WINDOW)


def _places(side: int) -> npt.NDArray[np.int64]:
    """Where tiles begin along a side: evenly, so that they overlap by about half and reach both ends."""
    count = 1 + -(-2 * (side - _TILE_PX) // _TILE_PX)
    return np.linspace(0, side - _TILE_PX, count).astype(np.int64)


def _window() -> FloatArray:
    """[T, T] Hann window."""
    line = np.hanning(_TILE_PX + 2)[1:-1]
    return np.outer(line, line).astype(np.float32)


def _band() -> FloatArray:
    """[T, T // 2 + 1] weights of the frequencies; those of a whole spectrum sum to the number of pixels, so that the
    peak of identical tiles has height 1."""
    y, x = np.fft.fftfreq(_TILE_PX)[:, None], np.fft.fftfreq(_TILE_PX)[None, :]
    whole = np.exp(-(y**2 + x**2) / (2 * _BAND**2))
    whole[0, 0] = 0.0
    whole *= _TILE_PX**2 / whole.sum()
    return np.asarray(whole)[:, : _TILE_PX // 2 + 1].astype(np.float32)


_WINDOW, _WEIGHTS = _window(), _band()


def _displacement(before: _Tiles, now: _Tiles) -> float:
    """Pixels from one picture to the other; nan where they show different things."""
    pixels, height = _tile_displacements(before.spectra, now.spectra)
    textured = before.textured & now.textured
    believed = textured & (height > _COHERENT)
    usual = max(int((before.textured | now.textured).sum()), 1)
    if 3 * int(believed.sum()) < usual and _likeness(before.grey, now.grey) < _LIKE:
        return float("nan")
    moving = pixels[believed & (pixels > _MOVES_PX)]
    if len(moving) >= min(_FEWEST, len(pixels)):
        return float(np.percentile(moving, _UPPER))
    return _faint_displacement(before.tiles, now.tiles)


def _tile_displacements(before: _Complex, now: _Complex) -> tuple[FloatArray, FloatArray]:
    """([N] pixels, [N] height of the peak) of tiles given by their spectra."""
    cross = now * before.conj()
    cross *= _WEIGHTS / (np.abs(cross) + 1e-6)
    surface = np.fft.irfft2(cross, (_TILE_PX, _TILE_PX))
    count = np.arange(len(surface))
    row, column = np.unravel_index(surface.reshape(len(surface), -1).argmax(1), surface.shape[1:])
    height = surface[count, row, column]
    y = row + _vertex(*(surface[count, (row + step) % _TILE_PX, column] for step in (-1, 0, 1)))
    x = column + _vertex(*(surface[count, row, (column + step) % _TILE_PX] for step in (-1, 0, 1)))
    y, x = (np.where(along > _TILE_PX / 2.0, along - _TILE_PX, along) for along in (y, x))
    return np.hypot(y, x), height


def _vertex(left: FloatArray, middle: FloatArray, right: FloatArray) -> FloatArray:
    """[N] where the Gaussian through three values has its peak, -0.5..0.5 from the middle."""
    a, b, c = (np.log(np.maximum(value, 1e-4)) for value in (left, middle, right))
    bend = 2 * b - a - c
    return np.where(bend > 1e-6, np.clip((c - a) / (2 * np.maximum(bend, 1e-6)), -0.5, 0.5), 0.0)


def _likeness(a: FloatArray, b: FloatArray) -> float:
    """Correlation of two pictures reduced to blocks of 8 pixels; 1 for two flat ones."""
    x, y = (_blocks(each) for each in (a, b))
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x * x).sum() * (y * y).sum()))
    flat = _TEXTURE**2 * x.size
    return 1.0 if (x * x).sum() < flat and (y * y).sum() < flat else float((x * y).sum()) / max(spread, 1e-6)


def _blocks(a: FloatArray) -> FloatArray:
    h, w = a.shape[0] // _COARSE_PX, a.shape[1] // _COARSE_PX
    cut = a[: h * _COARSE_PX, : w * _COARSE_PX].reshape(h, _COARSE_PX, w, _COARSE_PX)
    mean: FloatArray = cut.mean((1, 3))
    return mean


def _faint_displacement(before: FloatArray, now: FloatArray) -> float:
    """Pixels by which smooth or small things moved that give no peak of their own; 0 where none did.

    The squared difference over the squared gradient is about the squared displacement, see `measure.same_picture`.

    Args:
        before, now: [N, T, T] tiles.
    """
    x, y = _halved_tiles(before), _halved_tiles(now)
    difference = (y - y.mean((1, 2), keepdims=True)) - (x - x.mean((1, 2), keepdims=True))
    difference = np.maximum(np.abs(difference) - _DEAD_ZONE, 0.0)
    if not difference.any():
        return 0.0
    mean = (x + y) / 2
    gradient = [np.einsum("nij,nij->n", each, each) for each in (np.diff(mean, axis=1), np.diff(mean, axis=2))]
    squared = np.einsum("nij,nij->n", difference, difference) / (gradient[0] + gradient[1] + x[0].size)
    found = 2.0 * float(np.sqrt(np.sort(squared)[-min(_FEWEST, len(squared))]))
    return min(found, _RENEW_PX) if found > _MOVES_PX else 0.0


def _halved_tiles(tiles: FloatArray) -> FloatArray:
    """[N, T / 2, T / 2] means of 2 x 2 pixels."""
    return (tiles[:, ::2, ::2] + tiles[:, 1::2, ::2] + tiles[:, ::2, 1::2] + tiles[:, 1::2, 1::2]) / 4
