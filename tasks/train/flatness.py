"""Where photos are of one colour, nothing but outlines places a surface: there it is taken to be flat.

Neither rendering nor photometric consistency tells a plate from a bulge of its colour. Second differences along the
surface do not mind where a plate lies, nor how it is turned; and edges, where they are large, are left alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from tasks.train.photometric import PATCH, TEXTURE
from tasks.train.pixel_bank import PixelBank

REACH = (0.008, 0.1)
"""Shortest and longest reach of a difference, in field units."""
RISE, DENT = 0.01, 0.03
"""What bends more over the longest reach, outwards or inwards, in field units, is no plate, or spans an edge."""


def plain_pixels(bank: PixelBank) -> Tensor:
    """[N] bool: the pixels of a bank around which a patch of the photo has no texture."""
    grey, plain = bank.grey(), []
    for (width, height), start in zip(bank.sizes, bank.starts.tolist(), strict=False):
        photo = grey[start : start + width * height].float().view(1, height, width) / 255.0

        def mean(of: Tensor) -> Tensor:
            return avg_pool2d(of, PATCH, 1, PATCH // 2, count_include_pad=False)

        spread = (mean(photo.square()) - mean(photo).square()).clamp(min=0.0).sqrt()
        plain.append((spread < TEXTURE).view(-1))
    return torch.cat(plain)


def bending(
    x: Tensor, value: Tensor, slope: Tensor, distances: Callable[[Tensor], Tensor], generator: torch.Generator
) -> Tensor:
    """Mean second difference of distances along the surface, over twice the difference's reach: radians.

    Args:
        x: [N, 3] places near the surface.
        value: [N] signed distances there; followed by gradients.
        slope: [N, 3] of the distances there.
        distances: signed distances [N] of places [N, 3]; followed by gradients.
    """
    aside = torch.randn(x.shape, generator=generator, device=x.device)
    along = normalize(torch.linalg.cross(aside, slope), dim=1)
    draw = torch.rand(len(x), generator=generator, device=x.device)
    reach = REACH[0] * (REACH[1] / REACH[0]) ** draw
    ends = distances(torch.cat([x + reach[:, None] * along, x - reach[:, None] * along])).view(2, -1)
    with torch.no_grad():
        far = distances(torch.cat([x + REACH[1] * along, x - REACH[1] * along])).view(2, -1)
    rise = (ends.sum(0) - 2.0 * value).abs()
    at_large = far.sum(0) - 2.0 * value.detach()
    plate = (rise.detach() < RISE) & (at_large < RISE) & (at_large > -DENT)
    return (plate * rise / (2.0 * reach)).mean()
