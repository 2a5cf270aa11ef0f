"""Whether given masks, and not the photos, are why a capture does not hold together: matched again without masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from models.errors import ReasonCode
from models.results import Reason
from tasks.context import Context
from tasks.pose.base import Capture, Photo
from tasks.pose.evidence import Evidence, gather
from tasks.pose.features import FeatureSettings, create_database, extract, match
from tasks.pose.options import PoseOptions

_PHOTOS = 8
_FEATURES = 3000
_JOINED = 0.6
"""Share of photos from which on one group counts as a capture that holds together."""


def blame_masks(evidence: Evidence, capture: Capture, options: PoseOptions, context: Context) -> Reason | None:
    """The masks as the cause, where neighbouring photos that do not match inside them match without them; else None.

    Args:
        evidence: of all photos, with features inside the masks alone.
    """
    if capture.mask_dir is None or not any(photo.mask for photo in capture.photos):
        return None
    if evidence.connected > _JOINED * evidence.photos:
        return None
    start = max(0, (len(capture.photos) - _PHOTOS) // 2)
    some = capture.photos[start : start + _PHOTOS]
    bare = replace(capture, photos=tuple(replace(photo, mask=None) for photo in some), mask_dir=None)
    joined = _matched(bare, options, context).connected
    if joined <= max(2.0, _JOINED * len(some)):
        return None
    message = (
        f"expected masks inside which the photos show one thing, found {evidence.connected} of {evidence.photos} "
        f"photos joined by what they show (features in the white part alone: {_white(capture.photos):.0%} of a photo); "
        f"without the masks {joined} of {len(some)} neighbouring photos are joined"
    )
    return Reason.of(ReasonCode.WRONG_MASKS, message)


def _matched(capture: Capture, options: PoseOptions, context: Context) -> Evidence:
    """What photos say that are matched anew, with few features."""
    database, threads = context.scratch / "unmasked.db", max(1, context.threads)
    settings = FeatureSettings(min(options.max_features, _FEATURES), options.feature_edge_px)
    create_database(database, capture, "auto")
    extract(database, capture, settings, threads)
    context.check()
    match(database, capture, options, settings, threads, context.request.seed)
    return gather(database, capture)


def _white(photos: tuple[Photo, ...]) -> float:
    """Median share of a photo that its mask leaves to features."""
    shares = []
    for photo in photos:
        if photo.mask is not None:
            with Image.open(photo.mask) as mask:
                shares.append(float((np.asarray(mask.convert("L")) > 0).mean()))
    return float(np.median(shares))
