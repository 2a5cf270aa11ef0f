"""What is said of a set of photos: facts, notes, and a rejection where too few are usable. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from models.errors import DigitizeError, ReasonCode
from models.photos import IngestedPhoto, PhotoIndex, RejectedPhoto
from models.quality import Verdict
from models.raw_format import INSTALL
from models.results import Reason, StageResult
from tasks.ingest.colour import Correction
from tasks.ingest.select import CROP

_NAMED_IN_SUMMARY = 3
_MAX_REASONS = 20


def judge(
    index: PhotoIndex,
    min_photos: int,
    masks_given: int,
    correction: Correction | None = None,
    told: Sequence[str] = (),
) -> StageResult:
    """Facts about the set, and `reject` when too few photos are usable.

    Args:
        told: notes about the source.
    """
    counts = Counter(str(photo.code) for photo in index.rejected)
    facts: dict[str, Any] = {
        "found": len(index.photos) + len(index.rejected),
        "photos": len(index.photos),
        "rejected": dict(sorted(counts.items())),
        "masks": sum(photo.mask is not None for photo in index.photos),
        "masks_given": masks_given,
        "cameras": len({photo.camera_key for photo in index.photos}),
        "camera_groups": camera_names(index.photos),
        "with_focal": sum(photo.focal_px is not None for photo in index.photos),
        "megapixels": round(sum(photo.width * photo.height for photo in index.photos) / 1e6, 3),
        "source_megapixels": round(sum(p.source_width * p.source_height for p in index.photos) / 1e6, 3),
    }
    notes = [*told, *_notes(index.photos)]
    if correction is not None:
        facts["colour"] = asdict(correction)
        notes.insert(0, str(correction))
    if notes:
        facts["notes"] = notes[:_MAX_REASONS]
    if helping := len(index.photos) - len(index.shown):
        facts["alignment_only"] = helping
    if len(index.shown) >= min_photos:
        return StageResult(facts=facts)
    summary = f"expected at least {min_photos} usable photos, found {len(index.shown)} of {facts['found']}"
    if helping:
        summary += f" beside {helping} for alignment only"
    if index.rejected:
        summary += f": {_summary(index.rejected)}"
    reasons = [Reason.of(ReasonCode.TOO_FEW_IMAGES, summary)]
    reasons += [Reason.of(photo.code, photo.message, path=photo.name) for photo in index.rejected[:_MAX_REASONS]]
    return StageResult(facts=facts, verdict=Verdict.REJECT, reasons=tuple(reasons))


def _notes(photos: Sequence[IngestedPhoto]) -> list[str]:
    """A line for each note, with the photos that it belongs to."""
    names: dict[str, list[str]] = {}
    for photo in photos:
        if photo.note:
            names.setdefault(photo.note, []).append(photo.name)
    return [
        f"{found[0]}: {note}" if len(found) == 1 else f"{len(found)} photos ({_named(found)}): {note}"
        for note, found in names.items()
    ]


def _named(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_NAMED_IN_SUMMARY])}{', ...' * (len(names) > _NAMED_IN_SUMMARY)}"


def _summary(rejected: Sequence[RejectedPhoto]) -> str:
    """`2 blurred (a.jpg, b.jpg), 1 undecodable (c.jpg)`."""
    by_code: dict[str, list[str]] = {}
    for photo in rejected:
        by_code.setdefault(str(photo.code), []).append(photo.name)
    return ", ".join(f"{len(names)} {code} ({_named(names)})" for code, names in sorted(by_code.items()))


def camera_names(photos: Sequence[IngestedPhoto]) -> list[str]:
    """The cameras of a set, the one with most photos first: `24 x Canon EOS R 50 mm, 6000 x 4000`.

    Photos of one camera, focal length and stored size share their intrinsics. Crops, each a camera of its own, are
    counted together.
    """
    groups: Counter[str] = Counter()
    for photo in photos:
        if CROP in photo.camera_key:
            groups["crops, each a camera of its own"] += 1
            continue
        make, model, focal = photo.camera_key.split("|")[:3]
        device = model if model.lower().startswith(make.lower()) else f"{make} {model}"
        device = device.strip() or "unknown camera"
        groups[f"{device}{f' {focal} mm' if focal else ''}, {photo.source_width} x {photo.source_height}"] += 1
    ordered = sorted(groups.items(), key=lambda item: (-item[1], item[0]))
    return [f"{count} x {name}" for name, count in ordered[:_MAX_REASONS]]


def check_reader(index: PhotoIndex, min_photos: int) -> None:
    """Fail, rather than reject, a set that only lacks the reader of its raw files: it would be rejected for good."""
    raws = [photo.name for photo in index.rejected if photo.code is ReasonCode.MISSING_DEPENDENCY]
    if raws and len(index.photos) < min_photos:
        found = f"{len(index.photos)} of {len(index.photos) + len(index.rejected)}"
        message = (
            f"expected at least {min_photos} usable photos, found {found}: {len(raws)} need rawpy ({_named(raws)})"
        )
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, INSTALL)
