"""What the pose methods share: their options, the capture they read and the solution they hand back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from models.camera import FloatArray, Vector3
from models.quality import DEFAULT_GATES, POSE_METRICS, Gate
from models.record import Record
from models.spec import Scale

POSE_GATES: tuple[Gate, ...] = tuple(gate for gate in DEFAULT_GATES if gate.metric in POSE_METRICS)


class Region(Record):
    """A region of interest given by hand, in the frame of an earlier run's `poses.json`.

    Either `centre` and `half_size` (a cube), or `minimum` and `maximum` (a box, which the cube encloses).
    """

    centre: Vector3 | None = None
    half_size: float | None = Field(default=None, gt=0)
    minimum: Vector3 | None = None
    maximum: Vector3 | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        cube = (self.centre is not None, self.half_size is not None)
        box = (self.minimum is not None, self.maximum is not None)
        if (all(cube), all(box)) not in {(True, False), (False, True)} or (any(cube) and any(box)):
            raise ValueError("region: expected centre and half_size, or minimum and maximum")
        if self.minimum and self.maximum and any(a >= b for a, b in zip(self.minimum, self.maximum, strict=True)):
            raise ValueError(f"region: expected minimum < maximum on each axis, found {self.minimum}, {self.maximum}")
        return self

    @property
    def cube(self) -> tuple[FloatArray, float]:
        """Centre [3] and half the edge of the cube."""
        if self.centre is not None and self.half_size is not None:
            return np.array(self.centre, dtype=np.float64), self.half_size
        low, high = np.array(self.minimum, dtype=np.float64), np.array(self.maximum, dtype=np.float64)
        return (low + high) / 2.0, float((high - low).max() / 2.0)


class PoseOptions(Record):
    """Options that every pose method has."""

    max_features: int = Field(default=6000, ge=500, le=50000)
    """SIFT features a photo. More help smooth or large objects; the time for matching grows with the square."""
    feature_edge_px: int = Field(default=1600, ge=320)
    """Photos are searched for features at this long edge at most. Raise it for fine, sharp detail."""
    exhaustive_limit: int = Field(default=120, ge=2)
    """Up to this many photos every pair is matched; beyond, neighbours in name order and the most alike photos."""
    neighbours: int = Field(default=25, ge=4)
    """Look-alikes that each photo is matched with beyond `exhaustive_limit`. Raise it when a capture falls apart."""
    scale: Scale = Scale()
    """Where the size in metres comes from."""
    region: Region | None = None
    """The region of interest, where the one that is found is not what you want."""
    region_margin: float = Field(default=0.12, ge=0, le=1)
    """Room left around the object on each side, as a share of its size. Raise it when the object is cut off."""
    heldout_every: int = Field(default=8, ge=2)
    """One photo in this many is kept out of training, to measure quality with."""
    gates: tuple[Gate, ...] = POSE_GATES
    """Bounds on the pose metrics; an asset that misses one is rejected or marked before any training."""


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
