"""A photo as stereo reads it: grey values at several sizes, its camera, and the pixels that count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, Matrix4, invert_rigid, pixel_rays, transform_points

FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]
QuadArray = npt.NDArray[np.uint32]
MASK_LEVEL = 128


@dataclass(frozen=True)
class Level:
    """One size of a photo."""

    camera: Camera
    quads: QuadArray
    """[H, W] each pixel with its right, lower and lower right neighbours, 8 bits each from the lowest."""
    mask: ByteArray | None
    """[H, W] 1 where depth is wanted; None for everywhere."""


@dataclass(frozen=True)
class Photo:
    """A photo and its coarser copies, the finest first."""

    levels: tuple[Level, ...]
    c2w: Matrix4

    @property
    def w2c(self) -> FloatArray:
        """[4, 4] world to camera."""
        return invert_rigid(self.c2w)


def pack_quads(grey: ByteArray) -> QuadArray:
    """[H, W] 8-bit grey values as 2 x 2 neighbourhoods, repeated beyond the border."""
    wide = np.pad(grey, ((0, 1), (0, 1)), mode="edge").astype(np.uint32)
    return np.ascontiguousarray(wide[:-1, :-1] | wide[:-1, 1:] << 8 | wide[1:, :-1] << 16 | wide[1:, 1:] << 24)


def fitted(camera: Camera, edge_px: int) -> Camera:
    """The camera with a long edge of `edge_px` pixels at most."""
    scale = min(1.0, edge_px / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def make_photo(
    picture: Image.Image, camera: Camera, c2w: Matrix4, mask: npt.NDArray[np.bool_] | None, levels: int
) -> Photo:
    """A photo of `levels` sizes, each half of the one before.

    Args:
        picture: of any size: it is resampled to the camera's.
        camera: of the finest level.
        mask: [H, W] of the camera, True where depth is wanted; None for everywhere.
        levels: fewer are made where the smallest would be under 48 pixels high or wide.
    """
    made = []
    grey = picture.convert("L")
    for k in range(levels):
        small = camera.resized(-(-camera.width // (1 << k)), -(-camera.height // (1 << k)))
        if k > 0 and min(small.width, small.height) < 48:
            break
        size = (small.width, small.height)
        values = np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.BOX), dtype=np.uint8)
        made.append(Level(small, pack_quads(values), None if mask is None else shrunk(mask, size)))
    return Photo(tuple(made), c2w)


def shrunk(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> ByteArray:
    """A mask at another size (width, height): 1 where half of the pixel or more is inside."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    values = np.asarray(picture.resize(size, Image.Resampling.BOX), dtype=np.uint8)
    return np.ascontiguousarray(values >= MASK_LEVEL).astype(np.uint8)


def read_mask(path: Path, camera: Camera) -> npt.NDArray[np.bool_]:
    """[H, W] the mask of a file at the camera's size."""
    with Image.open(path) as picture:
        resized = picture.convert("L").resize((camera.width, camera.height), Image.Resampling.BOX)
    return np.asarray(resized, dtype=np.uint8) >= MASK_LEVEL


def crosses_cube(camera: Camera, c2w: Matrix4, world_from_field: Matrix4) -> npt.NDArray[np.bool_]:
    """[H, W] whether the ray through each pixel's centre meets the region's cube [-1, 1]^3 before the camera."""
    field_from_world = np.linalg.inv(np.array(world_from_field))
    rays_o, rays_d = pixel_rays(camera, c2w)
    o, d = transform_points(field_from_world, rays_o[:1]), rays_d @ field_from_world[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(-1.0 - o) / d, (1.0 - o) / d])
    # a ray along a face of the cube gives 0 / 0: it meets nothing that matters
    near, far = np.nan_to_num(ends.min(0)).max(1), np.nan_to_num(ends.max(0)).min(1)
    return np.asarray((near < far) & (far > 0)).reshape(camera.height, camera.width)
