"""The object of a photo, in two passes: the whole photo, then the part of it that holds what the first pass found."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.saliency.network import Picture, SoftMask

MARGIN = 0.1
"""Room around the first pass's object on each side, as a share of the object's longer side."""
UNDECIDED = (0.1, 0.9)
"""Between these the network does not know."""
_SMALL_PIECE = 0.1

Network = Callable[[Picture], SoftMask]
"""[H, W, 3] -> [h, w] in [0, 1], over the whole picture."""
Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, right and bottom excluded."""


class Found(NamedTuple):
    """What stands out in a photo."""

    mask: SoftMask
    """[H, W] in [0, 1]: how likely each pixel shows the object."""
    undecided: float
    """Share of the network's pixels between 0.1 and 0.9, in the pass where there are more of them."""


def find_object(network: Network, picture: Picture) -> Found:
    """The object of a photo [H, W, 3] that nothing is known about."""
    first = network(picture)
    box = object_box(first, picture.shape[:2])
    if box is None:
        return Found(_resized(first, picture.shape[1], picture.shape[0]), undecided_share(first))
    second = find_in_box(network, picture, box)
    return Found(second.mask, max(second.undecided, undecided_share(first)))


def find_in_box(network: Network, picture: Picture, box: Box) -> Found:
    """The object of a photo [H, W, 3] inside a box that is known to hold it; nothing outside the box."""
    left, top, right, bottom = box
    found = network(np.ascontiguousarray(picture[top:bottom, left:right]))
    mask = np.zeros(picture.shape[:2], np.float32)
    mask[top:bottom, left:right] = _resized(found, right - left, bottom - top)
    return Found(mask, undecided_share(found))


def undecided_share(mask: SoftMask) -> float:
    """Share of a soft mask's pixels that are neither object nor background."""
    low, high = UNDECIDED
    return float(((mask > low) & (mask < high)).mean())


def object_box(mask: npt.NDArray[np.floating], shape: tuple[int, ...], margin: float = MARGIN) -> Box | None:
    """The box around the main pieces of a mask [h, w], in a photo of `shape` (H, W); None for an empty mask.

    Pieces smaller than a tenth of the largest are left out: they are things beside the object.
    """
    from scipy import ndimage

    pieces, count = ndimage.label(mask > 0.5)
    if count == 0:
        return None
    areas = np.bincount(pieces.ravel())[1:]
    v, u = np.nonzero(np.isin(pieces, 1 + np.flatnonzero(areas >= _SMALL_PIECE * areas.max())))
    sy, sx = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    left, right, top, bottom = u.min() * sx, (u.max() + 1) * sx, v.min() * sy, (v.max() + 1) * sy
    room = margin * max(right - left, bottom - top)
    return (
        max(0, int(left - room)),
        max(0, int(top - room)),
        min(shape[1], int(np.ceil(right + room))),
        min(shape[0], int(np.ceil(bottom + room))),
    )


def _resized(mask: SoftMask, width: int, height: int) -> SoftMask:
    large = Image.fromarray(mask, mode="F").resize((width, height), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(large, dtype=np.float32), 0.0, 1.0)
