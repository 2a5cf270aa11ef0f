"""Masks by a network that finds what stands out, checked against the cameras and the sparse points.

A photo whose mask labels many sparse points otherwise than the other photos do gets it anew, with the others' hull as
the part to look at; a photo that still disagrees gets no mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from models.resources import Estimate, Resources
from tasks.mask.options import MaskOptions
from tasks.saliency.u2net import EXTERNAL as WEIGHTS

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.mask.agreement import Agreement
    from tasks.mask.gate import Judgement
    from tasks.mask.photos import MaskPhotos, PhotoMask
    from tasks.saliency.find import Box, Network

VERSION = "1"
EXTERNAL = (WEIGHTS,)
PRESETS: dict[str, dict[str, object]] = {}


class Options(MaskOptions):
    """Options of the `saliency` method."""

    max_undecided: float = Field(default=0.10, ge=0, le=1)
    """Share of pixels that the network may be unsure of, median over the photos. Raise it for objects with soft edges
    (fur, plants) whose masks look right."""
    min_unanimous: float = Field(default=0.98, ge=0, le=1)
    """Share of the sparse points seen by three photos or more that all of them must label alike."""
    min_hull_iou: float = Field(default=0.85, ge=0, le=1)
    """Overlap of the masks with their hull projected back, median over the photos. Lower it for wires and nets."""
    max_disagreement: float = Field(default=0.05, ge=0, le=1)
    """Share of a photo's sparse points that its mask may label otherwise than most photos before it is found anew."""


@dataclass(frozen=True)
class _Hull:
    """Where the other photos say the object is."""

    boxes: dict[int, Box]
    agreement: Agreement


def resources(options: Options) -> Resources:
    """Two cores; one photo at a time."""
    return Resources(cpus=2, memory_gb=2.0, scratch_gb=0.5, timeout_s=3600)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Two passes of the network a photo, then the hull."""
    seconds = 4.0 + photos * (0.7 + 0.25 * megapixels)
    return Estimate(seconds=seconds, memory_gb=0.7 + 0.02 * megapixels)


def find_masks(photos: MaskPhotos, options: Options, context: Context) -> tuple[list[PhotoMask], Judgement]:
    """Masks of all photos, and whether they can be believed.

    Raises DigitizeError(missing_dependency) when this machine lacks the weights.
    """
    from tasks.external import fetch_external
    from tasks.mask.gate import Limits, judge
    from tasks.saliency.find import find_object
    from tasks.saliency.u2net import U2Net

    network = U2Net(fetch_external(context, WEIGHTS), max(1, context.threads))
    masks = []
    for index in range(len(photos.images)):
        context.check()
        context.progress(0.8 * index / len(photos.images), "finding the object", {})
        found = find_object(network, photos.picture(index))
        masks.append(photos.keep(index, found.mask >= 0.5, found.undecided))
    masks = mend(photos, masks, network, options, context)
    limits = Limits(options.min_points, options.max_undecided, options.min_unanimous, options.min_hull_iou)
    return masks, judge(photos, masks, limits, context.check)


def mend(
    photos: MaskPhotos, masks: list[PhotoMask], network: Network, options: Options, context: Context
) -> list[PhotoMask]:
    """Find masks that disagree with the others anew, or give them up."""
    from tasks.mask.agreement import disagreeing_share, votes

    agreement = votes(photos, masks)
    wrong = [m.index for m in masks if disagreeing_share(photos, m, agreement) > options.max_disagreement]
    if not wrong:
        return masks
    trusted = [mask.as_dropped() if mask.index in wrong else mask for mask in masks]
    hull = _hull(photos, trusted, wrong, context)
    mended = list(trusted)
    for index in wrong:
        context.check()
        new = None if hull is None else _anew(photos, index, hull, network, options)
        if new is None:
            photos.discard(index)
        else:
            mended[index] = new
    return mended


def _hull(photos: MaskPhotos, trusted: list[PhotoMask], wrong: list[int], context: Context) -> _Hull | None:
    from tasks.mask.agreement import votes
    from tasks.mask.gate import hull_of
    from tasks.saliency.find import object_box
    from tasks.silhouettes.outlines import dilate

    found = hull_of(photos, trusted, context.check)
    if found is None:
        return None
    boxes = {}
    for index in wrong:
        camera = photos.images[index].camera
        outline = dilate(found[0].silhouette(photos.small[index], photos.c2w[index]), 0.03)
        box = object_box(outline.astype(float), (camera.height, camera.width), margin=0.0)
        if box is not None:
            boxes[index] = box
    return _Hull(boxes, votes(photos, trusted))


def _anew(photos: MaskPhotos, index: int, hull: _Hull, network: Network, options: Options) -> PhotoMask | None:
    from tasks.mask.agreement import disagreeing_share
    from tasks.saliency.find import find_in_box

    if index not in hull.boxes:
        return None
    found = find_in_box(network, photos.picture(index), hull.boxes[index])
    mask = photos.keep(index, found.mask >= 0.5, found.undecided, "mended")
    return mask if disagreeing_share(photos, mask, hull.agreement) <= options.max_disagreement else None
