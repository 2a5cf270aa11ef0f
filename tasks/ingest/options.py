"""The options of the ingest stage. Light."""

from __future__ import annotations

from pydantic import Field, field_validator

from models.colour import ColourReference
from models.raw_format import INSTALL, can_develop
from models.record import Record
from models.spec import MaskRole


class IngestOptions(Record):
    """What is accepted and how it is stored."""

    max_edge_px: int = Field(default=1600, ge=256, le=16384)
    """Long edge of the stored pictures. Raise it when the surface lacks fine detail that the photos show; time and
    memory of all later stages grow with its square."""
    min_edge_px: int = Field(default=256, ge=16)
    """Short edge below which a photo is refused. Lower it for sets from old or scientific cameras."""
    max_pixels: int = Field(default=150_000_000, ge=1_000_000, le=178_000_000)
    """Pixels above which a picture is refused unread, as protection against image bombs."""
    min_photos: int = Field(default=3, ge=2)
    """Usable photos below which the asset is rejected. Raise it to spare the later stages of hopeless sets."""
    blur_ratio: float = Field(default=0.25, ge=0.0, lt=1.0)
    """Share of the set's median sharpness below which a photo is left out. Raise it for videos made by hand, set 0 to
    keep everything."""
    reject_duplicates: bool = True
    """Leave out photos that show the same picture twice. Switch off for a subject that hardly changes between views."""
    reject_odd_sizes: bool = False
    """Leave out single photos of another size than the set's, instead of taking them for another camera's. Switch it on
    where previews lie among the photos."""
    max_video_photos: int = Field(default=120, ge=3, le=2000)
    """Photos that a video gives at most. Raise it for long videos that go round the object more than once."""
    video_photos_per_second: float = Field(default=3.0, gt=0.0)
    """Photos that a second of video gives at most. Raise it when the camera moves fast."""
    mask_role: MaskRole = MaskRole.OBJECT
    """What the white part of given masks is: the object, or what is to be ignored."""
    prefer_raw: bool = Field(default=False, exclude_if=lambda value: not value)
    """Of a raw file and the camera's own picture of the same name: whether the raw file is used. Switch it on where the
    camera's pictures are small or filtered; needs `asset-digitizer[raw]`."""
    alignment_only: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Filled in from the asset: photos that help to find the cameras and are used for nothing else."""
    colour: ColourReference | None = Field(default=None, exclude_if=lambda value: value is None)
    """A surface of known colour, which the asset names under `colour`: white balance and exposure of all photos."""
    max_archive_files: int = Field(default=5000, ge=1)
    """Entries above which an archive is refused."""
    max_archive_gb: float = Field(default=20.0, gt=0.0)
    """Unpacked size in GB above which an archive is refused."""

    @field_validator("prefer_raw")
    @classmethod
    def _has_reader(cls, prefer_raw: bool) -> bool:
        if prefer_raw and not can_develop():
            raise ValueError(f"expected rawpy, which reads raw files, found none. {INSTALL}")
        return prefer_raw
