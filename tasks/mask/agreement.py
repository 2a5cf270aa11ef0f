"""What the photos' masks say about the sparse points: a point is on the object in every photo that sees it, or in none.

No array of this module is larger than the sparse points' visibility list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.mask.photos import ON, OPEN, MaskPhotos, PhotoMask

MIN_VIEWS = 3
"""Photos that must see a point before their agreement counts."""
_MIN_SEEN = 8
"""Points below which a photo's disagreement says nothing."""


@dataclass(frozen=True)
class Agreement:
    """Votes of the photos on the sparse points."""

    on: npt.NDArray[np.int64]
    """[P] photos whose mask has the point on the object."""
    seen: npt.NDArray[np.int64]
    """[P] photos that see the point clear of their mask's outline."""

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """[P] points that enough photos see."""
        return np.asarray(self.seen >= MIN_VIEWS)

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """[P] points that most photos have on the object."""
        return np.asarray(2 * self.on > self.seen)

    @property
    def unanimous_share(self) -> float:
        """Share of the counted points that get one label from all photos; 1 where nothing is counted."""
        counted = self.counted
        same = (self.on == 0) | (self.on == self.seen)
        return float(same[counted].mean()) if counted.any() else 1.0


def votes(photos: MaskPhotos, masks: Sequence[PhotoMask]) -> Agreement:
    """The votes of the masks that are believed."""
    on = np.zeros(len(photos.points.xyz), np.int64)
    seen = np.zeros_like(on)
    for mask in masks:
        if mask.state != "dropped":
            points = photos.seen_by[mask.index]
            seen[points] += mask.labels != OPEN
            on[points] += mask.labels == ON
    return Agreement(on, seen)


def disagreeing_share(photos: MaskPhotos, mask: PhotoMask, agreement: Agreement) -> float:
    """Share of a photo's counted points that its mask labels otherwise than most photos; 0 for too few points."""
    points = photos.seen_by[mask.index]
    counted = agreement.counted[points] & (mask.labels != OPEN)
    if counted.sum() < _MIN_SEEN:
        return 0.0
    return float(((mask.labels == ON) != agreement.inside[points])[counted].mean())
