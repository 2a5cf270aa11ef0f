"""Which photos of a set are used: the rules that need the whole set. Pure; each gives names with reasons."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import ReasonCode
from models.photos import RejectedPhoto
from tasks.ingest.measure import ByteArray, same_picture

SHARPNESS_FLOOR = 0.3
"""A photo sharper than this is never called blurred, however sharp the others are."""
MAX_BLURRED_SHARE = 0.2
"""When more photos than that seem blurred, the set is like that and its worst alone are left out."""
DOMINANT_SHARE = 0.6
DOMINANT_PHOTOS = 4
ORPHANS = 2
"""Sizes with that many photos or fewer are strays beside a dominant size; with more they are a second camera."""
_SIZE_TOLERANCE = 0.01
CROP = "|crop of "
"""What stands in the camera key of a crop, before its stem."""


@dataclass(frozen=True)
class Candidate:
    """A photo that decoded, with what was measured on it. Sizes in pixels, upright."""

    name: str
    stem: str
    """File stem of its outputs."""
    staged: Path
    """The stored picture, waiting in scratch."""
    staged_mask: Path | None
    width: int
    height: int
    source_width: int
    source_height: int
    focal_px: float | None
    device: str
    """`make|model|focal`."""
    sharpness: float
    thumb: ByteArray
    """[256, 256], see `tasks.ingest.measure.thumbnail`."""
    sha256: str
    note: str = ""
    orientation: int = 1
    """EXIF orientation that was applied."""
    alignment_only: bool = False
    """Whether it helps to find the cameras and is used for nothing else."""
    cropped: bool = False
    """Whether it is a part of what its camera recorded: see `tasks.ingest.exif.CameraFacts`."""

    @property
    def camera_key(self) -> str:
        """What photos share that share intrinsics: `make|model|focal|WxH` of the stored picture, and of a crop its own
        name as well, for each was cut elsewhere.

        Portrait and landscape of one camera are two: pictures are stored upright, and the principal point and the
        tangential terms of the lens turn with them.
        """
        return f"{self.device}|{self.width}x{self.height}" + (f"{CROP}{self.stem}" if self.cropped else "")

    @property
    def source_pixels(self) -> int:
        """Number of pixels before any resize."""
        return self.source_width * self.source_height


@dataclass(frozen=True)
class Rules:
    """Which rules apply, from the method's options."""

    odd_sizes: bool
    duplicates: bool
    blur_ratio: float


def select(candidates: Sequence[Candidate], rules: Rules) -> tuple[tuple[Candidate, ...], tuple[RejectedPhoto, ...]]:
    """The photos to use and those to leave out, each in the given order."""
    rejected: list[RejectedPhoto] = []
    kept = list(candidates)

    def leave_out(found: list[RejectedPhoto]) -> None:
        names = {photo.name for photo in found}
        kept[:] = [candidate for candidate in kept if candidate.name not in names]
        rejected.extend(found)

    if rules.duplicates:
        leave_out(equal_files(kept))
    if rules.odd_sizes:
        leave_out(odd_sizes(kept))
    if rules.duplicates:
        leave_out(equal_pictures(kept))
    kept[:] = _with_masks_of_twins(kept, candidates, rejected)
    leave_out(blurred(kept, rules.blur_ratio))
    order = {candidate.name: index for index, candidate in enumerate(candidates)}
    return tuple(kept), tuple(sorted(rejected, key=lambda photo: order[photo.name]))


def _with_masks_of_twins(
    kept: Sequence[Candidate], candidates: Sequence[Candidate], rejected: Sequence[RejectedPhoto]
) -> list[Candidate]:
    """A duplicate that is left out leaves its mask to the photo that is used, where that one has none."""
    masked = {candidate.name: candidate for candidate in candidates if candidate.staged_mask is not None}
    heirs: dict[str, Candidate] = {}
    for photo in rejected:
        if photo.same_as and photo.name in masked:
            heirs.setdefault(photo.same_as, masked[photo.name])
    return [_with_mask_of(heirs.get(candidate.name), candidate) for candidate in kept]


def _with_mask_of(twin: Candidate | None, candidate: Candidate) -> Candidate:
    if twin is None or candidate.staged_mask is not None:
        return candidate
    if (twin.width, twin.height) != (candidate.width, candidate.height):
        return candidate
    note = "; ".join(filter(None, (candidate.note, f"with the mask of {twin.name}, the same picture")))
    return replace(candidate, staged_mask=twin.staged_mask, note=note)


def equal_files(candidates: Sequence[Candidate]) -> list[RejectedPhoto]:
    """Photos with the bytes of an earlier one."""
    first: dict[str, str] = {}
    found = []
    for candidate in sorted(candidates, key=lambda each: each.alignment_only):
        earlier = first.setdefault(candidate.sha256, candidate.name)
        if earlier != candidate.name:
            found.append(_duplicate(candidate, earlier, f"the same bytes as {earlier}"))
    return found


def _duplicate(candidate: Candidate, of: str, message: str) -> RejectedPhoto:
    return RejectedPhoto(
        name=candidate.name,
        code=ReasonCode.DUPLICATE,
        message=message,
        same_as=of,
        source_width=candidate.source_width,
        source_height=candidate.source_height,
    )


def odd_sizes(candidates: Sequence[Candidate]) -> list[RejectedPhoto]:
    """Single thumbnails and crops in a set that otherwise has one size.

    Portrait and landscape count as one size. Without a dominant size (60 % of the photos and at least 4) there is no
    norm, and nobody is left out; a size that three photos share is another camera or setting.
    """
    clusters: list[list[Candidate]] = []
    for candidate in candidates:
        cluster = next((c for c in clusters if _same_size(c[0], candidate)), None)
        if cluster is None:
            clusters.append([candidate])
        else:
            cluster.append(candidate)
    largest = max(clusters, key=len, default=[])
    if len(largest) < max(DOMINANT_PHOTOS, DOMINANT_SHARE * len(candidates)):
        return []
    norm = f"{largest[0].source_width} x {largest[0].source_height}"
    return [
        RejectedPhoto(
            name=photo.name,
            code=ReasonCode.WRONG_SIZE,
            message=f"expected {norm} pixels as {len(largest)} other photos, "
            f"found {photo.source_width} x {photo.source_height}",
        )
        for cluster in clusters
        if len(cluster) <= ORPHANS
        for photo in cluster
    ]


def _same_size(a: Candidate, b: Candidate) -> bool:
    edges_a, edges_b = (sorted((c.source_width, c.source_height)) for c in (a, b))
    return all(abs(x - y) <= _SIZE_TOLERANCE * max(x, y) for x, y in zip(edges_a, edges_b, strict=True))


def equal_pictures(candidates: Sequence[Candidate]) -> list[RejectedPhoto]:
    """Photos that are a kept one encoded or scaled anew. The largest is kept, then the sharpest, then
    the first; any before one for alignment only."""
    order = sorted(
        range(len(candidates)),
        key=lambda i: (candidates[i].alignment_only, -candidates[i].source_pixels, -candidates[i].sharpness, i),
    )
    kept: list[Candidate] = []
    found = []
    for index in order:
        candidate = candidates[index]
        twin = next((other for other in kept if _same_shape(candidate, other) and _twins(candidate, other)), None)
        if twin is None:
            kept.append(candidate)
        else:
            found.append(_duplicate(candidate, twin.name, f"the same picture as {twin.name}"))
    return found


def _same_shape(a: Candidate, b: Candidate) -> bool:
    ratio = (a.source_width * b.source_height) / (a.source_height * b.source_width)
    return abs(ratio - 1.0) <= 2 * _SIZE_TOLERANCE


def _twins(a: Candidate, b: Candidate) -> bool:
    resized = (a.source_width, a.source_height) != (b.source_width, b.source_height)
    return same_picture(a.thumb, b.thumb, resized)


def blurred(candidates: Sequence[Candidate], ratio: float) -> list[RejectedPhoto]:
    """Photos far less sharp than the set, the worst first, never more than a fifth of it.

    Args:
        ratio: share of the set's median sharpness below which a photo is blurred; 0 finds none.
    """
    if not candidates:
        return []
    median = statistics.median(candidate.sharpness for candidate in candidates)
    limit = min(ratio * median, SHARPNESS_FLOOR)
    below = sorted((c for c in candidates if c.sharpness < limit), key=lambda c: c.sharpness)
    return [
        RejectedPhoto(
            name=photo.name,
            code=ReasonCode.BLURRED,
            message=f"expected a sharpness of at least {limit:.3f} ({ratio:g} of the set's median), "
            f"found {photo.sharpness:.3f}",
        )
        for photo in below[: int(MAX_BLURRED_SHARE * len(candidates))]
    ]
