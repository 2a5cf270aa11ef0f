"""The photographs as the surface stage uses them: pictures, masks and cameras of the training split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, FloatArray, PosedImage, pixel_rays
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import ByteArray


@dataclass(frozen=True)
class View:
    """One posed photograph; the files are read when they are asked for, so that memory holds one at a time."""

    image: PosedImage
    fetch: Callable[[str], Path]
    """Local file of a path inside the pose stage's outputs."""

    @property
    def camera(self) -> Camera:
        """The picture's camera."""
        return self.image.camera

    @property
    def c2w(self) -> FloatArray:
        """[4, 4] camera to world."""
        return np.array(self.image.c2w, dtype=np.float64)

    def rgb(self) -> ByteArray:
        """[H, W, 3] sRGB."""
        if self.image.image is None:
            raise DigitizeError(ReasonCode.POSES_INVALID, f"expected a picture of '{self.image.name}', found none")
        return self._read(self.image.image, "RGB")

    def mask(self) -> npt.NDArray[np.bool_] | None:
        """[H, W] where the picture may be used; None where it has no mask."""
        return None if self.image.mask is None else np.asarray(self._read(self.image.mask, "L") > 127)

    def _read(self, path: str, mode: str) -> ByteArray:
        with Image.open(self.fetch(path)) as picture:
            pixels = np.asarray(picture.convert(mode), dtype=np.uint8)
        expected = (self.camera.height, self.camera.width)
        if pixels.shape[:2] != expected:
            message = f"expected {expected[1]}x{expected[0]} pixels, found {pixels.shape[1]}x{pixels.shape[0]}"
            raise DigitizeError(ReasonCode.POSES_INVALID, message, path=path)
        return pixels


def pixel_grid(view: View, rays: int) -> tuple[FloatArray, FloatArray]:
    """About `rays` evenly spread rays of a view, only through pixels that may be used: rays_o, rays_d [N, 3]."""
    camera = view.camera
    shrink = min(1.0, float(np.sqrt(rays / (camera.width * camera.height))))
    small = camera.resized(max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink)))
    rays_o, rays_d = pixel_rays(small, view.c2w)
    mask = view.mask()
    if mask is None:
        return rays_o, rays_d
    v, u = np.mgrid[0 : small.height, 0 : small.width]
    row = np.minimum(((v + 0.5) * camera.height / small.height).astype(np.int64), camera.height - 1)
    column = np.minimum(((u + 0.5) * camera.width / small.width).astype(np.int64), camera.width - 1)
    use = mask[row, column].ravel()
    return rays_o[use], rays_d[use]
