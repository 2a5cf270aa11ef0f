"""Distorted photos to pinhole photos, cropped so that every pixel is real."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, FloatArray

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
