"""How an object was photographed: which stages that allows, how many photos it takes, which gates it adds."""

from __future__ import annotations

from enum import StrEnum

from models.quality import Gate
from models.record import Record


class CaptureKind(StrEnum):
    """The kinds of captures."""

    RINGS = "rings"
    """The camera goes around an object that stands still."""
    TURNTABLE = "turntable"
    """The object turns before a camera that stands still; the background does not turn with it."""


class CaptureFacts(Record):
    """What a kind of capture means for the line."""

    stages: tuple[str, ...]
    """The stages of this distribution that make sense for it; installed ones are not bound by this."""
    minimum_photos: int
    """Usable photos below which the asset is rejected."""
    gates: tuple[Gate, ...] = ()
    """On top of the default ones."""


_LINE = ("ingest", "pose", "mask", "dense", "train", "surface", "scale", "export", "quality", "publish")
CAPTURE_KINDS: dict[CaptureKind, CaptureFacts] = {
    CaptureKind.RINGS: CaptureFacts(stages=_LINE, minimum_photos=3),
    # a turn in fewer steps leaves more than 45 degrees between neighbours: nothing is matched over that
    CaptureKind.TURNTABLE: CaptureFacts(stages=_LINE, minimum_photos=8),
}
