"""What the pose methods share: the capture they read and the solution they hand back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.camera import FloatArray
from models.points import SparsePoints


@dataclass(frozen=True)
class Photo:
    """One photo of the capture, as ingested. Sizes in pixels."""

    name: str
    """Its identity across stages."""
    key: str
    """Its file's name inside the image folder that COLMAP reads."""
    path: Path
    mask: Path | None
    width: int
    height: int
    source_width: int
    source_height: int
    focal_px: float | None
    camera_key: str
    orientation: int = 1
    """EXIF orientation that ingest applied."""
    alignment_only: bool = False
    """Whether it helps to find the cameras and is used for nothing else."""
    twins: tuple[str, ...] = ()
    """Names of duplicates that ingest left out for this photo."""


@dataclass(frozen=True)
class Capture:
    """All photos of one asset, and the folders that COLMAP reads them from."""

    photos: tuple[Photo, ...]
    image_dir: Path
    mask_dir: Path | None


@dataclass
class Solution:
    """What a method found. `reconstruction` is a pycolmap.Reconstruction, or None when there is no model at all."""

    reconstruction: Any | None
    database: Path
    free_gauge: bool
    """Whether the world's origin, axes and size are arbitrary and may be chosen here."""
    tried: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    units_metre: bool = False
    """Whether the poses were given in metres."""
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """The solved geometry as arrays, images in the order of the capture's photos."""

    photos: tuple[Photo, ...]
    c2w: FloatArray
    """[N, 4, 4] OpenCV camera to world."""
    cameras: tuple[Any, ...]
    """[N] pycolmap.Camera of each image, with its distortion, at the stored size."""
    points: SparsePoints

    @property
    def centres(self) -> FloatArray:
        """[N, 3] camera centres in the world."""
        return np.asarray(self.c2w[:, :3, 3])

    @property
    def axes(self) -> FloatArray:
        """[N, 3] unit optical axes in the world."""
        return np.asarray(self.c2w[:, :3, 2])
