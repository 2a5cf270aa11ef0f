"""The photos of a capture as the mask stage works on them: one after the other, little of each kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, FloatArray, PosedImage, PoseSet, project
from models.points import SparsePoints
from tasks.context import Context
from tasks.silhouettes.hull import Mask
from tasks.stage_files import fetch_picture

OUTLINE_EDGE_PX = 400
"""Long edge of the small masks that the hull is carved with and compared to."""
FOLDER = "masks"
TOLERANCE_PX = 2.0
"""How far automatic outlines may lie beside the object's: the network sees the object at 320 px."""
LOOSE_TOLERANCE_PX = 4.0
"""The same for outlines carved by depth maps of a small size, and for masks that their hull meets less well."""
OFF, ON, OPEN = 0, 1, -1
"""Labels of sparse points: beside the object, on it, or within the tolerance of its outline."""
_DIRECTIONS = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [0.7, 0.7], [0.7, -0.7], [-0.7, 0.7], [-0.7, -0.7]])


@dataclass(frozen=True)
class PhotoMask:
    """What is kept of one photo's mask; the mask itself lies in the stage's outputs."""

    index: int
    """Of the image in the PoseSet."""
    outline: Mask
    """[h, w] the mask at a small size."""
    labels: npt.NDArray[np.int8]
    """[S] `ON`, `OFF` or `OPEN` for each sparse point that the photo sees, in the order of `seen_by`."""
    undecided: float
    """Share of the pixels that the method was not sure of."""
    state: str = "found"
    """`found`, `trimmed` (to the hull of all photos), `mended` (found anew with the hull of the other
    photos), `carved` (the outline of what depth maps leave standing) or `dropped` (not believed)."""

    def as_dropped(self) -> PhotoMask:
        """The same mask, not believed."""
        return replace(self, state="dropped")


class MaskPhotos:
    """The posed photos, the sparse points, and where masks are written to."""

    def __init__(self, poses: PoseSet, points: SparsePoints, context: Context) -> None:
        self.poses, self.points, self._context = poses, points, context
        self.c2w: FloatArray = np.array([image.c2w for image in poses.images]).reshape(-1, 4, 4)
        self.small = tuple(_small(image.camera) for image in poses.images)
        """Each photo's camera at the size of the outlines."""
        self.seen_by = tuple(points.seen_by(k) for k in range(len(poses.images)))
        """The sparse points that each photo sees, as indices."""

    @property
    def images(self) -> tuple[PosedImage, ...]:
        """The photos, in order."""
        return self.poses.images

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """[H, W, 3] the undistorted photo."""
        path = self.images[index].image
        if path is None:
            raise ValueError(f"expected a picture of {self.images[index].name}, found none")
        with Image.open(fetch_picture(self._context, path)) as image:
            return np.asarray(image.convert("RGB"))

    def mask(self, index: int) -> Mask:
        """[H, W] the mask that was kept for a photo."""
        with Image.open(self._context.output / mask_path(self.images[index])) as image:
            return np.asarray(image) > 0

    def keep(self, index: int, mask: Mask, undecided: float, state: str = "found") -> PhotoMask:
        """Write a photo's mask [H, W], true on the object, and note what the gate asks for."""
        path = self._context.output / mask_path(self.images[index])
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask.astype(np.uint8) * 255)
        picture.save(path, "PNG")
        small = self.small[index]
        outline = np.asarray(picture.resize((small.width, small.height), Image.Resampling.BOX)) >= 128
        return PhotoMask(index, outline, self._labels(index, mask), round(undecided, 4), state)

    def discard(self, index: int) -> None:
        """Remove a photo's mask from the outputs."""
        (self._context.output / mask_path(self.images[index])).unlink(missing_ok=True)

    def _labels(self, index: int, mask: Mask) -> npt.NDArray[np.int8]:
        image = self.images[index]
        uv, _ = project(image.camera, image.c2w, self.points.xyz[self.seen_by[index]])
        around = uv[:, None] + TOLERANCE_PX * _DIRECTIONS
        pixel = np.clip(around, 0, [image.camera.width - 1, image.camera.height - 1]).astype(np.int64)
        on = mask[pixel[..., 1], pixel[..., 0]]
        return np.where(on.all(1), ON, np.where(on.any(1), OPEN, OFF)).astype(np.int8)


def mask_path(image: PosedImage) -> str:
    """The path of a photo's mask in the stage's outputs."""
    return f"{FOLDER}/{Path(image.image or image.name).stem}.png"


def _small(camera: Camera) -> Camera:
    shrink = min(1.0, OUTLINE_EDGE_PX / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink)))
