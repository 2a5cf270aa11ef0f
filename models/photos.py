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
    """`make|model|focal|WxH`, the stored size: photos that share it share intrinsics. A crop's ends in `|crop of STEM`:
    it shares them with no other photo."""
    sharpness: float = Field(ge=0)
    """Share of fine detail: about 0.5 in a sharp photo, below 0.1 in a blurred one; see `tasks.ingest.measure`."""
    source_sha256: str
    alignment_only: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether it helps to find the cameras and is used for nothing else."""
    note: str = ""
    """What whoever knows the file may not expect: which of its pages was used."""


class RejectedPhoto(Record):
    """One file that is not used, and why."""

    name: str
    code: ReasonCode
    message: str
    same_as: str | None = None
    """The photo that is used and shows the same picture."""
    source_width: int | None = Field(default=None, gt=0)
    """Of a duplicate: width before any resize, upright."""
    source_height: int | None = Field(default=None, gt=0)


class PhotoIndex(Record):
    """All that was found in a source, in natural order of the names. File: `photos.json`."""

    photos: tuple[IngestedPhoto, ...]
    rejected: tuple[RejectedPhoto, ...] = ()

    @property
    def shown(self) -> tuple[IngestedPhoto, ...]:
        """The photos that the asset is made from: all but those for alignment only."""
        return tuple(photo for photo in self.photos if not photo.alignment_only)

    def find(self, name: str) -> tuple[IngestedPhoto, tuple[int, int]] | None:
        """The photo of a name that the user gave, and the size in which it was given; None where there is none.

        Folders may stand before the name with `/` or, as the index joins them, with `_`. The name of a duplicate is
        that of the photo which is used in its place.
        """
        used = {photo.name: photo for photo in self.photos}
        left_out = {photo.name: photo for photo in self.rejected if photo.same_as in used}
        for known in dict.fromkeys((name, name.replace("/", "_"), name.rsplit("/", 1)[-1])):
            if (photo := used.get(known)) is not None:
                return photo, (photo.source_width, photo.source_height)
            if (twin := left_out.get(known)) is not None and twin.same_as is not None:
                photo = used[twin.same_as]
                return photo, (twin.source_width or photo.source_width, twin.source_height or photo.source_height)
        return None

    @staticmethod
    def read(path: Path) -> PhotoIndex:
        """The index in a file."""
        return PhotoIndex.model_validate_json(path.read_bytes())
