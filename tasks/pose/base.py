"""What the pose methods share: the capture they read and the solution they hand back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import FloatArray


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
class SparsePoints:
    """The sparse points. `visible_*` is a CSR list of the images that see each point."""

    xyz: FloatArray
    """[P, 3] in the world."""
    rgb: npt.NDArray[np.uint8]
    """[P, 3] sRGB."""
    error: npt.NDArray[np.float32]
    """[P] mean reprojection error in pixels."""
    visible_ptr: npt.NDArray[np.int64]
    """[P + 1]."""
    visible_idx: npt.NDArray[np.int32]
    """[visible_ptr[-1]] indices into the model's images."""

    @property
    def views(self) -> npt.NDArray[np.int32]:
        """[P] number of images that see each point."""
        return np.diff(self.visible_ptr).astype(np.int32)

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """[visible_ptr[-1]] the point that each entry of `visible_idx` belongs to."""
        return np.repeat(np.arange(len(self.xyz)), np.diff(self.visible_ptr))


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
