"""The sparse points of a capture, and which images see each of them. File: `points.npz` (docs/conventions.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.camera import FloatArray


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
    """[visible_ptr[-1]] indices into the PoseSet's images."""

    @property
    def views(self) -> npt.NDArray[np.int32]:
        """[P] number of images that see each point."""
        return np.diff(self.visible_ptr).astype(np.int32)

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """[visible_ptr[-1]] the point that each entry of `visible_idx` belongs to."""
        return np.repeat(np.arange(len(self.xyz)), np.diff(self.visible_ptr))

    def seen_by(self, image: int) -> npt.NDArray[np.int64]:
        """The points that an image of the PoseSet sees, in rising order."""
        return np.asarray(self.owner[self.visible_idx == image])

    @staticmethod
    def read(path: Path) -> SparsePoints:
        """The points that `write` left at `path`."""
        with np.load(path) as data:
            return SparsePoints(data["xyz"], data["rgb"], data["error"], data["visible_ptr"], data["visible_idx"])

    def write(self, path: Path) -> None:
        """Write `points.npz`. Equal points give equal bytes."""
        np.savez_compressed(
            path,
            xyz=self.xyz,
            rgb=self.rgb,
            error=self.error,
            views=self.views,
            visible_ptr=self.visible_ptr,
            visible_idx=self.visible_idx,
        )
