"""The photos' masks as a bound of the shape: what lies outside any silhouette is empty.

Rendering learns an outline only to within what the samples along its rays resolve. A point in space needs no rays: it
is outside the object as far as it is outside the silhouette of any photo (Laurentini 1994, the visual hull).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tasks.train.pixel_bank import PixelBank

PHOTOS = 64
"""Looked at in a step; of more, that many are drawn."""
OUTLINE = 0.5
"""Mask at an outline, which goes from 0 to 1 within a pixel: OUTLINE - mask is the distance to it in pixels."""
TOLERANCE = 0.1
"""Pixels by which masks may err: of many photos the worst one counts, and between pixels a mask is good to a tenth."""


class Bound(NamedTuple):
    """Signed distances held against the silhouettes, in pixels; means over the points."""

    excess: Tensor
    """How much the shape reaches beyond the silhouettes."""
    room: Tensor
    """The distances where the shape lies within all silhouettes, at most a pixel: falls as the shape grows."""


class Silhouettes:
    """The masks of photos.

    Args:
        bank: the photos, all of them in memory, some of them with masks.
    """

    def __init__(self, bank: PixelBank) -> None:
        assert bank.masks is not None
        self.bank, self.masks = bank, bank.masks

    def bound(self, x: Tensor, value: Tensor, generator: torch.Generator) -> Bound:
        """Of points [N, 3] with signed distances [N], differentiable by these.

        Further out than half a pixel the masks tell no more, and half a pixel is a bound all the same.
        """
        photos = torch.arange(self.bank.photos, device=x.device)
        if len(photos) > PHOTOS:
            photos = torch.rand(len(photos), generator=generator, device=x.device).argsort()[:PHOTOS]
        photo = photos.repeat_interleave(len(x))
        seen = self.bank.look(x.detach().repeat(len(photos), 1), photo, self.masks)
        mask, depth, known = (part.view(len(photos), -1) for part in seen)
        outside = torch.where(known, OUTLINE - TOLERANCE - mask, -1.0)
        pixels = value / self.bank.pixel_at(depth, photos[:, None]).clamp(min=1e-6)
        excess = torch.relu(outside - pixels).masked_fill(outside <= 0, 0.0).amax(0)
        within = (outside <= 0).all(0) & known.any(0)
        room = pixels.mean(0).clamp(-1.0, 1.0) * within
        return Bound(excess.mean(), room.mean())
