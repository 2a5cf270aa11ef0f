"""Distorted photos to pinhole photos, cropped so that every pixel is real."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.camera import Camera, FloatArray

import pycolmap  # isort: skip

_CELL_PX = 8
_NEGLIGIBLE_PX = 0.02
_JPEG_QUALITY = 97


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion, and where its pixels lie in the distorted photo."""

    camera: Camera
    mesh: tuple[tuple[tuple[int, int, int, int], tuple[float, ...]], ...]
    """Pillow's MESH: cells of the target with their quadrilaterals in the source; empty when nothing has to move."""


def pinhole_of(distorted: Any) -> Pinhole:
    """The pinhole camera that replaces a pycolmap.Camera: same focal length, all of its pixels inside the photo."""
    if _is_pinhole(distorted):
        return Pinhole(_record(distorted), ())
    options = pycolmap.UndistortCameraOptions()
    options.blank_pixels = 0.0
    straight = pycolmap.undistort_camera(options, distorted)
    return Pinhole(_record(straight), _mesh(distorted, straight))


def write_undistorted(pinhole: Pinhole, source: Path, target: Path) -> None:
    """Write the photo at `source` as the pinhole camera sees it: JPEG, quality 97, no chroma subsampling."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not pinhole.mesh and source.suffix.lower() in {".jpg", ".jpeg"}:
        shutil.copyfile(source, target)
        return
    with Image.open(source) as image:
        warped = warp(pinhole, image.convert("RGB"), Image.Resampling.BICUBIC)
    warped.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def write_undistorted_mask(pinhole: Pinhole, source: Path, target: Path) -> None:
    """Write the mask at `source` as the pinhole camera sees it: 255 where at least half of the pixel may be used."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        warped = warp(pinhole, image.convert("L"), Image.Resampling.BILINEAR)
    warped.point([255 if level >= 128 else 0 for level in range(256)]).save(target, "PNG")


def warp(pinhole: Pinhole, image: Image.Image, resample: Image.Resampling) -> Image.Image:
    """The image as the pinhole camera sees it."""
    if not pinhole.mesh:
        return image
    size = (pinhole.camera.width, pinhole.camera.height)
    return image.transform(size, Image.Transform.MESH, pinhole.mesh, resample)


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


def _mesh(distorted: Any, straight: Any) -> tuple[tuple[tuple[int, int, int, int], tuple[float, ...]], ...]:
    """Cells of 8 px: distortion is smooth, so the error of a bilinear cell is far below a hundredth of a pixel."""
    xs, ys = ([*range(0, edge, _CELL_PX), edge] for edge in (straight.width, straight.height))
    corners = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2).astype(np.float64)
    grid = _to_distorted(distorted, straight, corners).reshape(len(ys), len(xs), 2)
    limit = np.array([distorted.width, distorted.height])
    grid = np.clip(grid, 0.0, limit - 1e-6)
    cells = []
    for r in range(len(ys) - 1):
        for c in range(len(xs) - 1):
            quad = (grid[r, c], grid[r + 1, c], grid[r + 1, c + 1], grid[r, c + 1])
            cells.append(((xs[c], ys[r], xs[c + 1], ys[r + 1]), tuple(float(v) for corner in quad for v in corner)))
    return tuple(cells)


def _to_distorted(distorted: Any, straight: Any, pixels: FloatArray) -> FloatArray:
    local = straight.cam_from_img(pixels)
    moved: FloatArray = distorted.img_from_cam(np.concatenate([local, np.ones((len(local), 1))], 1))
    return moved
