"""Held-out photos against the trained model's picture and the published mesh's picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from models.camera import Camera, PosedImage
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, render_textured
from tasks.quality.base import MaskKind, ViewRow
from tasks.quality.metrics.colour import colour_corrected
from tasks.quality.metrics.psnr import psnr
from tasks.quality.metrics.ssim import ssim

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Item = TypeVar("Item")
Draw = Callable[[Camera, npt.ArrayLike], Float32Array]
"""(camera, c2w) -> rgb [H, W, 3]."""

MISSED = (0.5, 0.5, 0.5)
"""sRGB that stands for the mesh where it is missing: mid-grey, so that a hole costs as much as a wrong colour."""
HIGHEST_DB = 99.0
"""PSNR of pictures without any difference: records hold finite numbers."""
SUPERSAMPLE = 2
TEXTURE_DB = 25.0
"""Likeness that a texture can be expected to hold: highlights that a model knows beyond are no fault of the mesh."""
_WHOLLY = 0.99
"""Share of a pixel from which on the mesh covers all of it."""


@dataclass(frozen=True)
class View:
    """One held-out photo at the size of the comparison, and what is compared with it."""

    name: str
    photo: Float32Array
    """[H, W, 3] sRGB in [0, 1]"""
    mesh: Float32Array
    """[H, W, 3], mid-grey where the mesh is missing"""
    covered: BoolArray
    """[H, W] whether the pixel's centre sees the mesh"""
    mask: BoolArray
    """[H, W] where the figures are taken"""
    model: Float32Array | None
    """[h, w, 3] the trained model's picture, which may be smaller: fields are slow to draw without a GPU. None where
    there is no model with colours"""
    model_photo: Float32Array
    """[h, w, 3] the photo at that size"""
    model_mask: BoolArray
    """[h, w]"""
    kind: MaskKind
    full: bool
    """Whether the photo has no mask of its own: the model then has to explain the whole of it."""
    object_mask: BoolArray | None = None
    """[H, W] the photo's own mask, drawn or found; None where it has none."""

    @property
    def row(self) -> ViewRow | None:
        """The figures; None where the mask is empty."""
        if not (self.mask.any() and self.model_mask.any()):
            return None
        drawn = self.model
        alike = colour_corrected(self.mesh, self.photo, self.mask & self.covered)
        model_alike = None if drawn is None else colour_corrected(drawn, self.model_photo, self.model_mask)
        return ViewRow(
            name=self.name,
            mask=self.kind,
            mask_share=float(self.mask.mean()),
            covered=float(self.covered[self.mask].mean()),
            psnr_model=None if drawn is None else _finite(psnr(drawn, self.model_photo, self.model_mask)),
            psnr_model_full=None if drawn is None or not self.full else _finite(psnr(drawn, self.model_photo)),
            psnr_model_corrected=(
                None if model_alike is None else _finite(psnr(model_alike, self.model_photo, self.model_mask))
            ),
            psnr_mesh=_finite(psnr(self.mesh, self.photo, self.mask)),
            psnr_mesh_corrected=_finite(psnr(alike, self.photo, self.mask)),
            gap=None if model_alike is None else self._gap(alike, model_alike),
            ssim_model=None if drawn is None else ssim(drawn, self.model_photo, self.model_mask),
            ssim_mesh=ssim(self.mesh, self.photo, self.mask),
        )

    def _gap(self, mesh: npt.NDArray[np.floating], model: npt.NDArray[np.floating]) -> float | None:
        """PSNR in dB of the model, `TEXTURE_DB` of it at most, less that of the mesh, at the model's size and where the
        mesh covers the mask: a model that knows the background as well gains nothing by that."""
        shape = self.model_mask.shape
        shown = _shrunk((self.mask & self.covered).astype(np.float32), shape) > _WHOLLY
        if not shown.any():
            return None
        small = np.stack([_shrunk(mesh[..., channel], shape) for channel in range(3)], 2)
        best = min(_finite(psnr(model, self.model_photo, shown)), TEXTURE_DB)
        return best - _finite(psnr(small, self.model_photo, shown))


def _shrunk(values: npt.NDArray[np.floating], shape: tuple[int, ...]) -> Float32Array:
    """[h, w] of [H, W] by area."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BOX), dtype=np.float32)


def _finite(decibels: float) -> float:
    return min(decibels, HIGHEST_DB) if not math.isnan(decibels) else 0.0


def spread(items: Sequence[Item], most: int) -> tuple[Item, ...]:
    """At most `most` of the items, evenly spread over their order.

    >>> spread("abcdefgh", 3)
    ('a', 'e', 'h')
    """
    if len(items) <= most:
        return tuple(items)
    return tuple(items[int(k)] for k in np.round(np.linspace(0, len(items) - 1, most)))


def comparison_camera(camera: Camera, max_edge_px: int) -> Camera:
    """The camera of the picture shrunk to `max_edge_px` along its longer side; never enlarged."""
    shrink = min(1.0, max_edge_px / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink)))


def load_photo(path: Path, camera: Camera) -> Float32Array:
    """[H, W, 3] sRGB in [0, 1] at the camera's size, area-averaged."""
    from PIL import Image

    with Image.open(path) as image:
        picture = image.convert("RGB")
        if picture.size != (camera.width, camera.height):
            picture = picture.resize((camera.width, camera.height), Image.Resampling.BOX)
        return np.asarray(picture, dtype=np.float32) / 255.0


def load_mask(path: Path, camera: Camera) -> BoolArray:
    """[H, W] whether a pixel may be used, at the camera's size: at least half of it."""
    from PIL import Image

    with Image.open(path) as image:
        return resized_mask(np.asarray(image.convert("L")) >= 128, camera)


def resized_mask(mask: BoolArray, camera: Camera) -> BoolArray:
    """A mask [h, w] at the camera's size: the pixels of which at least half is inside."""
    from PIL import Image

    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if picture.size != (camera.width, camera.height):
        picture = picture.resize((camera.width, camera.height), Image.Resampling.BOX)
    return np.asarray(picture) >= 128


def render_mesh(surface: tuple[Mesh, RayCaster], camera: Camera, c2w: npt.ArrayLike) -> tuple[Float32Array, BoolArray]:
    """The mesh as a held-out photo should show it: rgb [H, W, 3], mid-grey where it is missing, and its mask [H, W]."""
    picture = render_textured(surface, camera, c2w, background=MISSED, supersample=SUPERSAMPLE)
    return picture.rgb, picture.mask


def compare(
    image: PosedImage,
    photo: Path,
    max_edge_px: int,
    model_edge_px: int,
    draw: Draw | None,
    surface: tuple[Mesh, RayCaster],
    mask_of: Callable[[PosedImage, Camera], tuple[BoolArray, MaskKind]],
    object_mask: Path | None = None,
) -> View:
    """Render and mask one held-out photo.

    Args:
        photo: the undistorted picture.
        max_edge_px: longer side of the comparison with the mesh.
        model_edge_px: longer side of the comparison with the trained model.
        draw: how the trained model draws a picture; None where there is none with colours.
        surface: the published mesh in the capture's frame.
        mask_of: (image, camera of the comparison) -> mask [H, W] and where it comes from.
        object_mask: the photo's own mask.
    """
    camera, small = (comparison_camera(image.camera, edge) for edge in (max_edge_px, model_edge_px))
    # the band around a silhouette is a few pixels wide: it is drawn at the larger size for both
    mask, kind = mask_of(image, max(camera, small, key=lambda one: one.width))
    mesh, covered = render_mesh(surface, camera, image.c2w)
    return View(
        name=image.name,
        photo=load_photo(photo, camera),
        mesh=mesh,
        covered=covered,
        mask=resized_mask(mask, camera),
        model=None if draw is None else np.clip(draw(small, image.c2w), 0.0, 1.0),
        model_photo=load_photo(photo, small),
        model_mask=resized_mask(mask, small),
        kind=kind,
        full=image.mask is None,
        object_mask=None if object_mask is None else load_mask(object_mask, camera),
    )
