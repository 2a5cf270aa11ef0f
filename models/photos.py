"""What ingest hands on: `photos.json` and the pictures that it lists."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from models.errors import ReasonCode
from models.record import Record


class IngestedPhoto(Record):
    """One usable photo: upright, 8-bit sRGB, without metadata. Sizes in pixels."""

    name: str
    """Unique in the capture: the source's base name, or its path joined by `_` where two folders share base names."""
    file: str
    """Path of the picture inside the stage's outputs: `images/<stem>.jpg`."""
    mask: str | None = None
    """Path of the 8-bit mask: `masks/<stem>.png`, 255 where the picture may be used."""
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    source_width: int = Field(gt=0)
    """Width of the upright photo before any resize."""
    source_height: int = Field(gt=0)
    focal_px: float | None = Field(default=None, gt=0)
    """Focal length in pixels of the stored picture, where the photo's metadata tells it."""
    orientation: int = Field(default=1, ge=1, le=8)
    """EXIF orientation that was applied to make the photo upright."""
    camera_key: str
    """`make|model|focal|WxH`: photos that share it share intrinsics."""
    sharpness: float = Field(ge=0)
    """Share of fine detail: about 0.5 in a sharp photo, below 0.1 in a blurred one; see `tasks.ingest.measure`."""
    source_sha256: str
    note: str = ""
    """What whoever knows the file may not expect: which of its pages was used."""


class RejectedPhoto(Record):
    """One file that is not used, and why."""

    name: str
    code: ReasonCode
    message: str


class PhotoIndex(Record):
    """All that was found in a source, in natural order of the names. File: `photos.json`."""

    photos: tuple[IngestedPhoto, ...]
    rejected: tuple[RejectedPhoto, ...] = ()

    @staticmethod
    def read(path: Path) -> PhotoIndex:
        """The index in a file."""
        return PhotoIndex.model_validate_json(path.read_bytes())
