"""The photos as a bank of pixels, and rays through them computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from models.camera import Camera, PosedImage, apply_similarity_to_c2w
from models.errors import DigitizeError, ReasonCode
from models.fields.kernels.sample_photos import Looked, look

BYTES_A_PIXEL = 4
"""Colour and mask."""


class Pixels(NamedTuple):
    """A batch of pixels with their rays."""

    rays_o: Tensor
    """[R, 3] in field coordinates."""
    rays_d: Tensor
    """[R, 3] unit directions in field coordinates."""
    rgb: Tensor
    """[R, 3] sRGB in [0, 1]."""
    alpha: Tensor
    """[R] in [0, 1]: how much of the pixel the mask lets count."""
    photo: Tensor
    """[R] int64, which photo."""
    number: Tensor
    """[R] int64, the pixel's number: photo by photo, row by row."""

    @property
    def used(self) -> Tensor:
        """[R] bool: whether the mask lets the pixel count."""
        return self.alpha >= 0.5


class Photo(NamedTuple):
    """A photo in memory."""

    rgb: npt.NDArray[np.uint8]
    """[H, W, 3] sRGB."""
    mask: npt.NDArray[np.uint8] | None
    """[H, W], 255 = use."""


class Rig:
    """The cameras of some photos, and the rays through their pixels.

    Args:
        cameras: one a photo.
        c2f: [P, 4, 4] camera-to-field poses, OpenCV axes.
    """

    def __init__(self, cameras: Sequence[Camera], c2f: npt.NDArray[np.float64], device: str) -> None:
        self.sizes = [(camera.width, camera.height) for camera in cameras]
        """Width and height of each photo in pixels."""
        counts = np.array([width * height for width, height in self.sizes])
        self.photos, self.pixels = len(cameras), int(counts.sum())
        self.starts = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])).to(device)
        """[P + 1] int64 number of each photo's first pixel."""
        intrinsics = np.array([[c.width, c.height, c.fx, c.fy, c.cx, c.cy] for c in cameras], dtype=np.float64)
        views = np.concatenate([intrinsics, c2f[:, :3].reshape(-1, 12)], axis=1)
        self._views = torch.from_numpy(views.astype(np.float32)).to(device)
        """[P, 18] as `look` wants them."""

    @property
    def centres(self) -> Tensor:
        """[P, 3] camera centres in field coordinates."""
        return self._views[:, 6:].view(-1, 3, 4)[:, :, 3]

    def place(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Which photo [R], and which of its pixels [R], the pixels of numbers [R] are."""
        photo = torch.bucketize(index, self.starts, right=True) - 1
        return photo, index - self.starts[photo]

    def rays(self, photo: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions [..., 3] in field coordinates, through the centres of pixels `local` [...] of
        photos [...]. The shapes broadcast."""
        views = self._views[photo]
        width, _, fx, fy, cx, cy = views[..., :6].unbind(-1)
        pose, columns = views[..., 6:].view(*photo.shape, 3, 4), width.long()
        u, v = (local % columns).float() + 0.5, (local // columns).float() + 0.5
        axes = torch.stack([(u - cx) / fx, (v - cy) / fy, torch.ones_like(u)], -1)
        rays_d = torch.nn.functional.normalize((pose[..., :3] * axes[..., None, :]).sum(-1), dim=-1)
        return pose[..., 3].expand_as(rays_d), rays_d

    def look(self, x: Tensor, photo: Tensor, picture: Tensor) -> Looked:
        """What photos [N] of a picture [pixels] uint8 show at points [N, 3] of the field."""
        return look(x, photo, self._views, self.starts, picture)

    def pixel_at(self, depth: Tensor, photo: Tensor) -> Tensor:
        """[...] size of a pixel of photos [...] at depths [...], in field units. The shapes broadcast."""
        return depth * 2.0 / self._views[photo][..., 2:4].sum(-1)


class PixelBank(Rig):
    """All pixels of some photos, 8 bits a channel, on one device.

    Args:
        cameras: one a photo.
        c2f: [P, 4, 4] camera-to-field poses, OpenCV axes.
        rgb: the photos, [H, W, 3] uint8 each.
        masks: [H, W] uint8 each (255 = use), or None for photos without.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        c2f: npt.NDArray[np.float64],
        rgb: Sequence[npt.NDArray[np.uint8]],
        masks: Sequence[npt.NDArray[np.uint8] | None],
        device: str,
    ) -> None:
        super().__init__(cameras, c2f, device)
        self._rgb = torch.from_numpy(np.concatenate([photo.reshape(-1, 3) for photo in rgb])).to(device)
        self._mask: Tensor | None = None
        if any(mask is not None for mask in masks):
            full = [
                np.full(width * height, 255, np.uint8) if mask is None else mask.ravel()
                for (width, height), mask in zip(self.sizes, masks, strict=True)
            ]
            self._mask = torch.from_numpy(np.concatenate(full)).to(device)

    @property
    def masked(self) -> bool:
        """Whether any photo has a mask."""
        return self._mask is not None

    @property
    def resident(self) -> Tensor | None:
        """[P] bool, the photos whose pixels can be taken now; None for all."""
        return None

    def turn_to(self, step: int) -> None:
        """Be ready for that step of training."""

    def close(self) -> None:
        """Nothing to stop: everything is in memory."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """[count] int64 numbers of random pixels."""
        return torch.randint(self.pixels, (count,), generator=generator, device=self.starts.device)

    def take(self, index: Tensor) -> Pixels:
        """The pixels of numbers [R] int64 in [0, pixels)."""
        photo, local = self.place(index)
        rgb = self._rgb.index_select(0, index).float() / 255.0
        return Pixels(*self.rays(photo, local), rgb, self.masks_of(index), photo, index)

    def grey(self) -> Tensor:
        """[pixels] uint8 brightness of all pixels (Rec. 601 luma)."""
        weights = torch.tensor([0.299, 0.587, 0.114], device=self._rgb.device)
        parts = self._rgb.split(1 << 20)  # type: ignore[no-untyped-call]
        return torch.cat([(part.float() @ weights).round().to(torch.uint8) for part in parts])

    @property
    def masks(self) -> Tensor | None:
        """[pixels] uint8, 255 = use; None where no photo has a mask."""
        return self._mask

    def masks_of(self, number: Tensor) -> Tensor:
        """In [0, 1], the masks of pixels by their number."""
        if self._mask is None:
            return torch.ones(number.shape, device=number.device)
        return self._mask[number].float() / 255.0

    def survey(self, count: int, generator: torch.Generator) -> Pixels:
        """`count` pixels that stand for all; the generator is a CPU's."""
        return self.take(torch.randint(self.pixels, (count,), generator=generator).to(self.starts.device))


def load_bank(
    images: Sequence[PosedImage],
    open_file: Callable[[str], Path],
    world_from_field: npt.ArrayLike,
    memory_gb: float,
    device: str,
    check: Callable[[], None],
) -> PixelBank:
    """Read photos and masks; both are halved until they fit into `memory_gb`.

    Args:
        open_file: path within the pose stage's outputs -> local file.
        check: called before each photo; may raise to stop.

    Raises:
        DigitizeError(undecodable, wrong_size, too_few_images).
    """
    shrink = 1
    while bytes_of(images, shrink) > memory_gb * 1e9:
        shrink *= 2
    rgb, masks = [], []
    cameras, c2f = cameras_in_field(images, world_from_field, shrink)
    for image, camera in zip(images, cameras, strict=True):
        check()
        photo = read_photo(image, camera, open_file)
        rgb.append(photo.rgb)
        masks.append(photo.mask)
    return PixelBank(cameras, c2f, rgb, masks, device)


def bytes_of(images: Sequence[PosedImage], shrink: int = 1) -> int:
    """Bytes of the photos with their masks when halved `shrink` / 2 times."""
    return sum(BYTES_A_PIXEL * (image.camera.width // shrink) * (image.camera.height // shrink) for image in images)


def cameras_in_field(
    images: Sequence[PosedImage], world_from_field: npt.ArrayLike, shrink: int = 1
) -> tuple[list[Camera], npt.NDArray[np.float64]]:
    """The cameras of photos resampled to 1 / `shrink` of their size, and their poses [P, 4, 4] in the field.

    Raises:
        DigitizeError(too_few_images).
    """
    if not images:
        raise DigitizeError(ReasonCode.TOO_FEW_IMAGES, "expected at least one photo, found none")
    field_from_world = np.linalg.inv(np.asarray(world_from_field, dtype=np.float64))
    cameras = [
        image.camera.resized(max(image.camera.width // shrink, 1), max(image.camera.height // shrink, 1))
        for image in images
    ]
    return cameras, np.stack([apply_similarity_to_c2w(field_from_world, image.c2w) for image in images])


def read_photo(image: PosedImage, camera: Camera, open_file: Callable[[str], Path]) -> Photo:
    """A photo and its mask, resampled to the size that `camera` has.

    Raises:
        DigitizeError(undecodable, wrong_size).
    """
    if image.image is None:
        raise DigitizeError(ReasonCode.UNDECODABLE, "expected a picture, found none", path=image.name)
    sizes = ((image.camera.width, image.camera.height), (camera.width, camera.height))
    rgb = _read(open_file(image.image), "RGB", *sizes)
    return Photo(rgb, None if image.mask is None else _read(open_file(image.mask), "L", *sizes))


def _read(path: Path, mode: str, expected: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            if picture.size != expected:
                raise DigitizeError(
                    ReasonCode.WRONG_SIZE,
                    f"expected {expected[0]}x{expected[1]} pixels as the camera says, "
                    f"found {picture.size[0]}x{picture.size[1]}",
                    path=str(path),
                )
            converted = picture.convert(mode)
            if size != expected:
                converted = converted.resize(size, Image.Resampling.BOX)
            return np.array(converted, dtype=np.uint8)
    except (OSError, SyntaxError) as error:
        raise DigitizeError(ReasonCode.UNDECODABLE, f"not a readable picture: {error}", path=str(path)) from error
