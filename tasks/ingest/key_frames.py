"""Which frames of a video become photos: sharp ones that lie evenly along the path of what is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STEP = 0.02
"""Displacement between two photos, as share of the picture's long edge. An object of radius r in the picture whose near
side turns by the angle a moves there by r * a; of one that fills half of the long edge (r = 0.25) 0.02 is a turn of
5 degrees, which is 80 photos all around."""
FINEST = 0.004
"""The same where the path is short, as of a small object on a turntable: 6 pixels of a picture of 1600."""
ENOUGH = 36
"""Photos up to which steps get finer than `STEP`: one for each 10 degrees of a turn."""

_OFF_MIDDLE = 0.25
"""What a frame at the edge of its stretch loses of its sharpness in the comparison with one in the middle."""
_OUTSIDE = 0.5
"""What remains of it for frames beyond the edge: they win only over frames that are blurred."""
_REACH = 1.5
"""How far beyond the middle frames of neighbouring stretches are considered, in half stretches."""
_CLOSEST = 0.25
"""Share of a stretch that lies between two photos at least."""
_REST_S = 1.0
"""Stillness of that many seconds is told as a rest."""


@dataclass(frozen=True)
class FrameTable:
    """What the first pass records; [F] each, in the order in which the frames are shown."""

    times: FloatArray
    """Seconds."""
    sharpness: FloatArray
    """As `tasks.ingest.measure.sharpness` gives it."""
    motion: FloatArray
    """New displacement since the frame before as share of the long edge; nan at a cut, where it cannot be measured."""

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last, which is taken to be shown for the usual time."""
        return float(np.ptp(self.times)) + self.interval

    @property
    def interval(self) -> float:
        """The usual time in seconds from frame to frame."""
        steps = np.diff(self.times)
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else 0.04

    @property
    def variable_rate(self) -> bool:
        """Whether more than 2 % of the frames are shown for another time than the usual one, by over a quarter."""
        steps = np.diff(self.times)
        odd = np.abs(steps - self.interval) > 0.25 * self.interval
        return len(steps) > 0 and bool(np.mean(odd) > 0.02)

    @property
    def path(self) -> FloatArray:
        """[F] how far the picture has moved since the first frame; a cut is one step."""
        steps = np.where(np.isnan(self.motion), STEP, self.motion)
        steps[:1] = 0.0
        return np.cumsum(steps)

    @property
    def resting_seconds(self) -> float:
        """Time in rests of a second and more."""
        path, total, start = self.path, 0.0, 0
        for end in range(1, len(path) + 1):
            if end == len(path) or path[end] > path[start]:
                rest = float(self.times[end - 1] - self.times[start])
                total += rest if rest >= _REST_S else 0.0
                start = end
        return total


def choose(table: FrameTable, max_photos: int, photos_per_second: float) -> list[int]:
    """Indices of the key frames, in order.

    The path is cut into equal stretches and each gives its sharpest frame, so a camera that rests gives one photo and
    one that hurries many. There are no more than the time allows, and photos lie a `STEP` apart; where that gives fewer
    than `ENOUGH`, down to a `FINEST`.
    """
    frames = len(table.times)
    if frames == 0:
        return []
    path = table.path
    # rounded, so that 2 s at 3 photos a second give 6 although the times are sums of inexact parts
    allowed = max(1, min(max_photos, frames, int(np.ceil(round(table.duration * photos_per_second, 6)))))
    stretches = _most_stretches(path, STEP, allowed)
    wanted = min(ENOUGH, allowed)
    if _occupied(path, stretches) < wanted:
        stretches = max(stretches, _most_stretches(path, FINEST, wanted))
    return _sharpest(path, table.sharpness, stretches)


def _most_stretches(path: FloatArray, step: float, allowed: int) -> int:
    """Into how many equal stretches of at least `step` the path may be cut so that at most `allowed` have frames."""
    low, high = 1, 1 + int(path[-1] / step)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _occupied(path, middle) <= allowed else (low, middle - 1)
    return low


def _stretch_of(path: FloatArray, stretches: int) -> IntArray:
    """[F] the stretch in which each frame lies."""
    share = path / path[-1] if path[-1] > 0 else path
    return np.minimum((share * stretches + 1e-9).astype(np.int64), stretches - 1)


def _occupied(path: FloatArray, stretches: int) -> int:
    """How many stretches have frames; the path never goes back, so each change is a new one."""
    return 1 + int(np.count_nonzero(np.diff(_stretch_of(path, stretches))))


def _sharpest(path: FloatArray, sharpness: FloatArray, stretches: int) -> list[int]:
    """The frame of each occupied stretch that is sharpest, with preference for the middle."""
    length = path[-1] / stretches
    chosen: list[int] = []
    for stretch in np.unique(_stretch_of(path, stretches)):
        middle = (stretch + 0.5) * length
        first, last = np.searchsorted(path, middle + _REACH * length / 2 * np.array([-1.0, 1.0]) + [-1e-12, 1e-12])
        if chosen:
            first = max(first, np.searchsorted(path, path[chosen[-1]] + _CLOSEST * length), chosen[-1] + 1)
        candidates = np.arange(first, last)
        if len(candidates):
            off = np.abs(path[candidates] - middle) / (length / 2) if length > 0 else np.zeros(len(candidates))
            weight = (1 - _OFF_MIDDLE * np.minimum(off, 1.0) ** 2) * np.where(off > 1 + 1e-6, _OUTSIDE, 1.0)
            chosen.append(int(candidates[np.argmax(sharpness[candidates] * weight)]))
    return chosen
