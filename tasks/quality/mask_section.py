"""The report's section on masks: where they come from, how they lie on the photos, what they were held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.camera import PosedImage, PoseSet
from tasks.context import Context
from tasks.quality.pictures import data_uri, outlined, to_jpeg
from tasks.quality.views import comparison_camera, load_mask, load_photo, spread
from tasks.stage_files import fetch_picture

PICTURES = 8
"""Photos that are shown with the outlines of their masks, spread over the capture."""
_FIGURES: dict[str, tuple[str, str, str, str]] = {
    "undecided_median": (
        "≤",
        "max_undecided",
        "share",
        "pixels that the network is not sure of, median over the photos",
    ),
    "unanimous_share": ("≥", "min_unanimous", "share", "sparse points that all photos label alike"),
    "points_inside": ("≥", "min_points", "count", "sparse points on the object"),
    "believed_share": ("", "", "share", "photos whose mask agrees with the others"),
    "hull_closed": ("", "", "word", "the masks have a common hull that ends inside the capture"),
    "looked_at": ("", "", "word", "the cameras look at that hull"),
    "hull_iou_median": ("≥", "min_hull_iou", "share", "overlap of the masks with their hull projected back, median"),
    "hull_iou_worst": ("", "", "share", "the same for the photo where it is least"),
    "mask_tolerance_px": ("", "", "px", "how far outlines may lie beside the object's"),
}
"""Figure -> direction and option of its bound, how it is written, what it is."""
_STATES = {
    "found": "found",
    "trimmed": "trimmed to the hull of all masks",
    "mended": "found anew inside the others' hull",
    "carved": "outline by depth",
    "dropped": "not believed",
}


@dataclass(frozen=True)
class MaskSection:
    """What the section shows."""

    summary: str
    reasons: tuple[str, ...]
    """Why no mask was believed."""
    notes: tuple[str, ...]
    """What was tried before."""
    figures: tuple[tuple[str, str, str, str], ...]
    """(name, bound, value, what it is)"""
    pictures: tuple[tuple[str, str], ...]
    """(caption, data URI) of photos with the outlines of their masks."""
    photos: tuple[tuple[str, str, str], ...]
    """(name, what became of its mask, share of the photo that it covers)"""


def mask_section(
    facts: dict[str, Any], options: dict[str, Any], poses: PoseSet, edge_px: int, context: Context
) -> MaskSection | None:
    """The section; None for captures that were never masked.

    Args:
        facts: the mask stage's, empty where it did not run, and what the dense stage changed.
        options: the mask stage's.
        edge_px: longer side of the pictures.
    """
    if not facts and not any(image.mask for image in poses.images):
        return None
    shown = () if facts.get("scene_mode") else spread(poses.images, PICTURES)
    pictures = []
    for image in shown:
        context.check()
        pictures.append(_picture(image, edge_px, context))
    return MaskSection(
        summary=_summary(facts),
        reasons=tuple(map(str, facts.get("reasons", ()))),
        notes=tuple(map(str, facts.get("notes", ()))),
        figures=tuple(_figures(facts, {} if facts.get("carved") else options)),
        pictures=tuple(pictures),
        photos=tuple(
            (str(row["name"]), _STATES.get(str(row["state"]), str(row["state"])), f"{float(row['covered']):.1%}")
            for row in facts.get("photos", ())
        ),
    )


def _summary(facts: dict[str, Any]) -> str:
    if facts.get("scene_mode"):
        return "None: a scene. No set of masks could be believed, and the photos were used whole."
    if not facts or facts.get("given"):
        return "They came with the photos."
    if facts.get("carved"):
        how = "carved by depth (what stands on the support and photos do not see through)"
    elif facts.get("method") == "geometry":
        how = "taken from the sparse points above the support"
    elif "network" in facts:
        how = f"found by a given network, sha256 {str(facts['network'])[:12]}"
    else:
        how = "found by the network U²-Net-p"
    missing = " Its weights were not installed where the run was planned." if facts.get("weights_missing") else ""
    refined = ""
    if facts.get("masks_refined"):
        refined = (
            f" Dense stereo refined those of {facts['masks_refined']} photos; on average they overlap with those of "
            f"before by {float(facts['masks_alike']):.1%}."
        )
    return f"Nobody drew them. They were {how}, and checked against the cameras and each other.{refined}{missing}"


def _figures(facts: dict[str, Any], options: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, (sign, option, kind, what) in _FIGURES.items():
        if name in facts:
            bound = f"{sign} {_text(options[option], kind)}" if option in options else "–"
            rows.append((name, bound, _text(facts[name], kind), what))
    return rows


def _text(value: Any, kind: str) -> str:
    """A figure as people write it.

    >>> _text(0.98, "share"), _text(1500, "count"), _text(True, "word"), _text(2.0, "px")
    ('98 %', '1,500', 'yes', '2 px')
    """
    if kind == "word":
        return "yes" if value else "no"
    return {"share": f"{100 * float(value):.4g} %", "count": f"{int(value):,}", "px": f"{float(value):g} px"}[kind]


def _picture(image: PosedImage, edge_px: int, context: Context) -> tuple[str, str]:
    camera = comparison_camera(image.camera, edge_px)
    photo = load_photo(fetch_picture(context, image.image or f"images/{image.name}.jpg"), camera)
    if image.mask is None:
        return f"{image.name}: no mask", data_uri(to_jpeg(photo, quality=80))
    mask = load_mask(fetch_picture(context, image.mask), camera)
    return image.name, data_uri(to_jpeg(outlined(photo, mask), quality=80))
