"""Masks by a network that finds what stands out, checked against the cameras and the sparse points.

A photo whose mask labels many sparse points otherwise than the other photos do gets it anew, with the others' hull as
the part to look at; a photo that still disagrees gets no mask. Where few points disagree, what lies beside the hull is
cut off, if that makes the photo agree better. Where the masks still cannot be believed, or do not meet their hull
closely, an object that stands on a support is carved by depth instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from models.resources import Estimate, Resources
from models.stage import Given
from tasks.mask.options import NETWORK, MaskOptions, depth_maps_gb
from tasks.saliency.u2net import EXTERNAL as WEIGHTS

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.mask.agreement import Agreement
    from tasks.mask.gate import Judgement
    from tasks.mask.photos import MaskPhotos, PhotoMask
    from tasks.saliency.find import Network
    from tasks.saliency.network import OnnxNetwork
    from tasks.silhouettes.hull import Mask

VERSION = "6"
PRESETS: dict[str, dict[str, object]] = {}
_HULL_DILATION = 0.03
"""How far beyond the hull a photo may show the object, as a share of its size."""


_Positive = Annotated[float, Field(gt=0)]


class Options(MaskOptions):
    """Options of the `saliency` method."""

    max_undecided: float = Field(default=0.10, ge=0, le=1)
    """Share of pixels that the network may be unsure of, median over the photos. Raise it for objects with soft edges
    (fur, plants) whose masks look right."""
    min_unanimous: float = Field(default=0.98, ge=0, le=1)
    """Share of the sparse points seen by three photos or more that all of them must label alike."""
    min_hull_iou: float = Field(default=0.85, ge=0, le=1)
    """Overlap of the masks with their hull projected back, median over the photos. Lower it for wires and nets."""
    good_hull_iou: float = Field(default=0.95, ge=0, le=1)
    """The same overlap from which on depth is not asked: masks that fill holes pass the bound above. Lower it to save
    time."""
    max_disagreement: float = Field(default=0.05, ge=0, le=1)
    """Share of a photo's sparse points that its mask may label otherwise than most photos before it is found anew."""
    network_edge_px: int = Field(default=320, ge=32, le=4096)
    """Edge of the picture that the network reads, where the network leaves that open. Set it to what a given network
    was trained with."""
    network_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green and blue in [0, 1]; ImageNet's. Set it to what a given network was trained with."""
    network_deviation: tuple[_Positive, _Positive, _Positive] = (0.229, 0.224, 0.225)
    """Divides red, green and blue after that; ImageNet's. Set it to what a given network was trained with."""
    network_gb: float = Field(default=0.25, gt=0)
    """Main memory that the network takes. Raise it for networks larger than U^2-Net-p."""


@dataclass(frozen=True)
class _Hull:
    """Where the other photos say the object is."""

    outlines: dict[int, Mask]
    """[h, w] the hull in those photos that it was asked for, a little wider."""
    agreement: Agreement


def external(given: Given) -> tuple[str, ...]:
    """The network that the asset's specification gives, or else the weights of U^2-Net-p."""
    return (NETWORK,) if NETWORK in given.external else (WEIGHTS,)


def resources(options: Options) -> Resources:
    """Two cores; the network, and small depth maps of all photos."""
    memory_gb = max(2.0, 1.2 * estimate(options, 100, 12.0).memory_gb)
    return Resources(cpus=2, memory_gb=memory_gb, scratch_gb=0.5, timeout_s=3600)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Two passes of the network a photo, small depth maps, then the hull."""
    small = photos * (options.depth_edge_px / 512.0) ** 2
    seconds = 6.0 + 1.6 * small + photos * (0.7 + 0.35 * megapixels)
    memory_gb = 0.6 + options.network_gb + depth_maps_gb(photos, options.depth_edge_px) + 0.02 * megapixels
    return Estimate(seconds=seconds, memory_gb=memory_gb)


def find_masks(photos: MaskPhotos, options: Options, context: Context) -> tuple[list[PhotoMask], Judgement]:
    """Masks of all photos, and whether they can be believed.

    Raises DigitizeError(missing_dependency) when this machine lacks the weights, and DigitizeError(network_invalid)
    when a given network is none that reads pictures and answers with masks.
    """
    from tasks.mask.gate import Limits, judge
    from tasks.mask.standing import Saved, is_possible, masks_of, outlines_by_depth
    from tasks.saliency.find import find_object

    network = _network(options, context)
    masks = []
    for index in range(len(photos.images)):
        context.check()
        context.progress(0.8 * index / len(photos.images), "finding the object", {})
        found = find_object(network, photos.picture(index))
        masks.append(photos.keep(index, found.mask >= 0.5, found.undecided))
    masks = mend(photos, masks, network, options, context)
    limits = Limits(options.min_points, options.max_undecided, options.min_unanimous, options.min_hull_iou)
    judgement = judge(photos, masks, limits, context.check)
    close = judgement.figures.get("hull_iou_median", 0.0) >= options.good_hull_iou
    if (close and not judgement.reasons) or not is_possible(photos):
        return masks, judgement
    outlines = outlines_by_depth(photos, options.depth_edge_px, context)
    if isinstance(outlines, str):
        return masks, replace(judgement, notes=(outlines,))
    saved = Saved.of(photos, masks)
    masks, carved = masks_of(photos, outlines, context)
    if carved.reasons and not judgement.reasons:
        notes = tuple(f"by depth: {reason}" for reason in carved.reasons)
        return saved.restore(photos), replace(judgement, notes=notes)
    loose = f"hull_iou_median: expected {options.good_hull_iou:g} not to ask depth, found less"
    notes = tuple(f"by the network: {reason}" for reason in judgement.reasons or (loose,))
    return masks, replace(carved, notes=notes)


def _network(options: Options, context: Context) -> OnnxNetwork:
    from tasks.external import fetch_external
    from tasks.saliency.network import OnnxNetwork, Reading

    name = NETWORK if NETWORK in context.request.inputs else WEIGHTS
    reading = Reading(options.network_edge_px, options.network_mean, options.network_deviation)
    return OnnxNetwork(fetch_external(context, name), max(1, context.threads), reading, context.input(name).uri)


def mend(
    photos: MaskPhotos, masks: list[PhotoMask], network: Network, options: Options, context: Context
) -> list[PhotoMask]:
    """Trim masks that disagree a little to the hull of all; find those that disagree much anew, or drop them."""
    from tasks.mask.agreement import disagreeing_share, votes

    agreement = votes(photos, masks)
    shares = {mask.index: disagreeing_share(photos, mask, agreement) for mask in masks}
    wrong = [index for index, share in shares.items() if share > options.max_disagreement]
    if not any(shares.values()):
        return masks
    trusted = [mask.as_dropped() if mask.index in wrong else mask for mask in masks]
    hull = _hull(photos, trusted, [index for index, share in shares.items() if share > 0], context)
    mended = []
    for mask in trusted:
        context.check()
        if mask.index in wrong:
            new = None if hull is None else _anew(photos, mask.index, hull, network, options)
            if new is None:
                photos.discard(mask.index)
            mended.append(new or mask)
        else:
            mended.append(mask if hull is None else _trimmed(photos, mask, hull))
    return mended


def _hull(photos: MaskPhotos, trusted: list[PhotoMask], wanted: list[int], context: Context) -> _Hull | None:
    from tasks.mask.agreement import votes
    from tasks.mask.gate import hull_of
    from tasks.silhouettes.hull import AGREE
    from tasks.silhouettes.outlines import dilate

    found = hull_of(photos, trusted, context.check, AGREE)
    if found is None:
        return None
    outlines = {k: dilate(found[0].silhouette(photos.small[k], photos.c2w[k]), _HULL_DILATION) for k in wanted}
    return _Hull(outlines, votes(photos, trusted))


def _anew(photos: MaskPhotos, index: int, hull: _Hull, network: Network, options: Options) -> PhotoMask | None:
    """The mask found inside the hull's box; None where it still disagrees."""
    from tasks.mask.agreement import disagreeing_share
    from tasks.saliency.find import find_in_box, object_box

    camera = photos.images[index].camera
    box = object_box(hull.outlines[index].astype(float), (camera.height, camera.width), margin=0.0)
    if box is None:
        return None
    found = find_in_box(network, photos.picture(index), box)
    mask = photos.keep(index, found.mask >= 0.5, found.undecided, "mended")
    return mask if disagreeing_share(photos, mask, hull.agreement) <= options.max_disagreement else None


def _trimmed(photos: MaskPhotos, mask: PhotoMask, hull: _Hull) -> PhotoMask:
    """The mask without what lies beside the hull (a scale bar that only some photos take for the object), if it then
    agrees better with the other photos."""
    import numpy as np
    from PIL import Image

    from tasks.mask.agreement import disagreeing_share

    if mask.index not in hull.outlines:
        return mask
    camera, before = photos.images[mask.index].camera, photos.mask(mask.index)
    outline = Image.fromarray(hull.outlines[mask.index].astype(np.uint8) * 255)
    inside = np.asarray(outline.resize((camera.width, camera.height), Image.Resampling.BILINEAR)) >= 128
    new = photos.keep(mask.index, before & inside, mask.undecided, "trimmed")
    if disagreeing_share(photos, new, hull.agreement) < disagreeing_share(photos, mask, hull.agreement):
        return new
    return photos.keep(mask.index, before, mask.undecided, mask.state)
