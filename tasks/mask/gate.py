"""Whether masks that nobody drew can be believed: figures, bounds, and the reasons against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models import frame
from models.camera import FloatArray, similarity_scale
from tasks.mask.agreement import votes
from tasks.mask.photos import LOOSE_TOLERANCE_PX, TOLERANCE_PX, MaskPhotos, PhotoMask
from tasks.silhouettes.hull import Hull, Mask, carve, hull_bounds

_CELLS = 96
_AGREE = 0.97
"""Share of the photos that must have a cell of the hull inside: fewer would let it swell beyond every outline."""
_CLOSE = 0.97
"""Overlap of the masks with their hull, median over the photos, from which on the outlines are trusted to 2 px."""
_REACH = 0.9
_BESIDE = 0.25
"""How far beside the hull's box cameras may look, as a share of its longest side: objects are rarely centred."""


@dataclass(frozen=True)
class Limits:
    """Bounds on the figures; None where a method's masks are not held to one."""

    min_points: int
    max_undecided: float | None = None
    min_unanimous: float | None = None
    min_hull_iou: float | None = None
    min_believed: float = 0.5


@dataclass(frozen=True)
class Judgement:
    """The figures of one set of masks, and what speaks against it."""

    figures: dict[str, float | bool | int]
    reasons: tuple[str, ...]
    """Empty when the masks are believed."""
    bounds: tuple[FloatArray, FloatArray] | None
    """Corners [3], [3] of the hull's box in the level frame."""
    notes: tuple[str, ...] = ()
    """What was tried before and why it was left."""


def level_frame(photos: MaskPhotos) -> FloatArray:
    """[3, 3] rows of the level frame: the axes of the region of interest."""
    turn = np.array(photos.poses.world_from_field)
    return np.asarray((turn[:3, :3] / similarity_scale(turn)).T)


def common_point(photos: MaskPhotos) -> FloatArray:
    """[3] what the cameras look at."""
    centres, axes = photos.c2w[:, :3, 3], photos.c2w[:, :3, 2]
    return frame.look_at(centres, axes, np.array(photos.poses.world_from_field)[:3, 3])


def hull_of(
    photos: MaskPhotos, masks: Sequence[PhotoMask], check: Callable[[], None], agree: float = _AGREE
) -> tuple[Hull, tuple[FloatArray, FloatArray]] | None:
    """The visual hull of the masks that are believed, and its box in the level frame; None where it is not closed."""
    believed = [mask for mask in masks if mask.state != "dropped"]
    if len(believed) < 2:
        return None
    outlines = [mask.outline for mask in believed]
    index = [mask.index for mask in believed]
    cameras, c2w, level = [photos.small[k] for k in index], photos.c2w[index], level_frame(photos)
    target = common_point(photos)
    reach = _REACH * float(np.median(np.linalg.norm(photos.c2w[:, :3, 3] - target, axis=1)))
    bounds = hull_bounds(outlines, cameras, c2w, target, reach, level, check)
    if bounds is None:
        return None
    check()
    hull = carve(outlines, cameras, c2w, bounds, level, _CELLS, agree)
    return None if hull is None else (hull, bounds)


def judge(photos: MaskPhotos, masks: Sequence[PhotoMask], limits: Limits, check: Callable[[], None]) -> Judgement:
    """Measure the masks and hold them to their bounds."""
    agreement = votes(photos, masks)
    believed = [mask for mask in masks if mask.state != "dropped"]
    figures: dict[str, float | bool | int] = {
        "believed_share": round(len(believed) / max(len(masks), 1), 4),
        "undecided_median": round(float(np.median([mask.undecided for mask in masks])), 4) if masks else 1.0,
        "unanimous_share": round(agreement.unanimous_share, 4),
        "points_inside": int((agreement.inside & agreement.counted).sum()),
    }
    found = hull_of(photos, masks, check)
    figures["hull_closed"] = found is not None
    bounds = None
    if found is not None:
        hull, bounds = found
        overlaps = [
            _iou(mask.outline, hull.silhouette(photos.small[mask.index], photos.c2w[mask.index])) for mask in believed
        ]
        figures["hull_iou_median"] = round(float(np.median(overlaps)), 4)
        figures["hull_iou_worst"] = round(float(np.min(overlaps)), 4)
        target = level_frame(photos) @ common_point(photos)
        room = _BESIDE * float((bounds[1] - bounds[0]).max())
        figures["looked_at"] = bool((target >= bounds[0] - room).all() and (target <= bounds[1] + room).all())
    return Judgement(figures, tuple(_reasons(figures, limits)), bounds)


def tolerance_px(masks: Sequence[PhotoMask], judgement: Judgement) -> float:
    """How far the masks' outlines may lie beside the object's: little where all of them meet their common hull closely.

    One photo whose mask lacks a part takes it from every other: masks that disagree here and there have not earned that
    what is outside them counts as empty.
    """
    carved = any(mask.state == "carved" for mask in masks)
    close = judgement.figures.get("hull_iou_median", 0.0) >= _CLOSE
    return TOLERANCE_PX if close and not carved else LOOSE_TOLERANCE_PX


def _reasons(figures: dict[str, float | bool | int], limits: Limits) -> list[str]:
    """One line a figure that misses its bound."""
    rows: list[tuple[str, float | None, bool, str]] = [
        ("undecided_median", limits.max_undecided, False, "share of pixels that the method is not sure of"),
        ("unanimous_share", limits.min_unanimous, True, "share of sparse points that all photos label alike"),
        ("points_inside", limits.min_points, True, "sparse points on the object"),
        ("believed_share", limits.min_believed, True, "share of photos whose mask agrees with the others"),
        ("hull_iou_median", limits.min_hull_iou, True, "overlap of the masks with their hull projected back"),
    ]
    found = []
    for name, bound, at_least, what in rows:
        value = figures.get(name)
        if bound is None or value is None or (value >= bound if at_least else value <= bound):
            continue
        found.append(f"{name}: expected {'at least' if at_least else 'at most'} {bound:g}, found {value:g} ({what})")
    if not figures["hull_closed"]:
        found.append("hull_closed: expected a hull of the masks that ends inside the capture, found none")
    elif not figures["looked_at"]:
        found.append("looked_at: expected the point that the cameras look at near the hull's box, found it elsewhere")
    return found


def _iou(one: Mask, other: Mask) -> float:
    union = int((one | other).sum())
    return float((one & other).sum()) / union if union else 1.0
