"""Distorted photos to pinhole photos, cropped so that every pixel is real, and masks back again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, FloatArray, Lens

import pycolmap  # isort: skip

_NEGLIGIBLE_PX = 0.02
_JPEG_QUALITY = 97


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion, and the lens that it replaces."""

    camera: Camera
    lens: Any | None
    """pycolmap.Camera of the photo as taken; None when its distortion is too small to matter."""

    def source_pixels(self) -> FloatArray:
        """[H, W, 2] where each pixel of the pinhole picture lies in the photo: (u, v), pixel centres at +0.5."""
        c = self.camera
        v, u = np.mgrid[0 : c.height, 0 : c.width] + 0.5
        local = np.stack([(u - c.cx) / c.fx, (v - c.cy) / c.fy, np.ones_like(u)], -1)
        if self.lens is None:
            return np.stack([u, v], -1)
        return np.asarray(self.lens.img_from_cam(local.reshape(-1, 3)), dtype=np.float64).reshape(c.height, c.width, 2)


def pinhole_of(distorted: Any) -> Pinhole:
    """The pinhole camera that replaces a pycolmap.Camera: same focal length, all of its pixels inside the photo."""
    if _is_pinhole(distorted):
        return Pinhole(_record(distorted), None)
    options = pycolmap.UndistortCameraOptions()
    options.blank_pixels = 0.0
    return Pinhole(_record(pycolmap.undistort_camera(options, distorted)), distorted)


def write_undistorted(pinhole: Pinhole, source: Path, target: Path) -> None:
    """Write the photo at `source` as the pinhole camera sees it: JPEG, quality 97, no chroma subsampling."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if pinhole.lens is None and source.suffix.lower() in {".jpg", ".jpeg"}:
        shutil.copyfile(source, target)
        return
    with Image.open(source) as image:
        straight = undistort(pinhole, np.asarray(image.convert("RGB")), smooth=True)
    Image.fromarray(straight).save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def write_undistorted_mask(pinhole: Pinhole, source: Path, target: Path) -> None:
    """Write the mask at `source` as the pinhole camera sees it: 255 where at least half of the pixel may be used."""
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(undistorted_mask(pinhole, source).astype(np.uint8) * 255).save(target, "PNG")


def undistorted_mask(pinhole: Pinhole, source: Path) -> npt.NDArray[np.bool_]:
    """[H, W] the mask at `source` as the pinhole camera sees it."""
    with Image.open(source) as image:
        return np.asarray(undistort(pinhole, np.asarray(image.convert("L")), smooth=False) >= 128)


def undistort(pinhole: Pinhole, picture: npt.NDArray[np.uint8], smooth: bool) -> npt.NDArray[np.uint8]:
    """The picture [H, W] or [H, W, 3] as the pinhole camera sees it.

    Args:
        smooth: sample cubic splines, which keep detail at its place to a hundredth of a pixel; else linearly.
    """
    from scipy import ndimage

    if pinhole.lens is None:
        return picture
    u, v = (pinhole.source_pixels() - 0.5).astype(np.float32).transpose(2, 0, 1)
    order = 3 if smooth else 1
    channels = [
        ndimage.map_coordinates(channel.astype(np.float32), (v, u), order=order, mode="nearest")
        for channel in np.atleast_3d(picture).transpose(2, 0, 1)
    ]
    sampled = np.clip(np.round(np.stack(channels, -1)), 0, 255).astype(np.uint8)
    return sampled if picture.ndim == 3 else sampled[..., 0]


def lens_record(name: str, distorted: Any) -> Lens:
    """The pycolmap.Camera of a photo as a record."""
    params = tuple(float(each) for each in distorted.params)
    return Lens(name=name, model=distorted.model.name, params=params, width=distorted.width, height=distorted.height)


def pinhole_pixels(lens: Lens, camera: Camera) -> FloatArray:
    """[H, W, 2] where each pixel of the photo as taken in lies in its pinhole picture, which may be beyond its edges:
    the inverse of `Pinhole.source_pixels`."""
    distorted = pycolmap.Camera.create_from_model_name(1, lens.model, 1.0, lens.width, lens.height)
    distorted.params = list(lens.params)
    v, u = np.mgrid[0 : lens.height, 0 : lens.width] + 0.5
    local = distorted.cam_from_img(np.stack([u.ravel(), v.ravel()], 1))
    pixels = local * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    return np.asarray(pixels, dtype=np.float64).reshape(lens.height, lens.width, 2)


def redistort(mask: npt.NDArray[np.bool_], pixels: FloatArray | None, size: tuple[int, int]) -> Image.Image:
    """A mask of a pinhole picture as a mask of its photo: 0 or 255.

    Args:
        mask: [h, w] of the pinhole picture. What the photo shows beyond it has the label of the nearest pixel.
        pixels: [H, W, 2] of `pinhole_pixels`; None where the photo was not undistorted.
        size: width and height of the result, of the photo before it was taken in at a smaller size.
    """
    from scipy import ndimage

    soft = mask.astype(np.float32) * 255.0
    if pixels is not None:
        u, v = (pixels - 0.5).astype(np.float32).transpose(2, 0, 1)
        soft = ndimage.map_coordinates(soft, (v, u), order=1, mode="nearest")
    # black and white before it is enlarged: shrunk again it is then the same, soft edges would move by half a pixel
    stored = np.where(soft >= 127.5, 255.0, 0.0).astype(np.float32)
    large = Image.fromarray(stored).resize(size, Image.Resampling.BILINEAR)
    return Image.fromarray(np.where(np.asarray(large) >= 127.5, 255, 0).astype(np.uint8))


def _is_pinhole(camera: Any) -> bool:
    """Whether distortion moves no pixel on the photo's rim by more than a fiftieth of a pixel."""
    w, h = camera.width, camera.height
    along = np.linspace(0.0, 1.0, 33)
    rim = np.concatenate(
        [np.stack([along * w, np.full(33, y)], 1) for y in (0.0, h)]
        + [np.stack([np.full(33, x), along * h], 1) for x in (0.0, w)]
    )
    straight = camera.cam_from_img(rim) * [camera.focal_length_x, camera.focal_length_y]
    straight += [camera.principal_point_x, camera.principal_point_y]
    return bool(np.abs(straight - rim).max() < _NEGLIGIBLE_PX)


def _record(camera: Any) -> Camera:
    return Camera(
        width=camera.width,
        height=camera.height,
        fx=camera.focal_length_x,
        fy=camera.focal_length_y,
        cx=camera.principal_point_x,
        cy=camera.principal_point_y,
    )
