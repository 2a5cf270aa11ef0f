"""The photos and depth maps of one run: read on demand, a bounded number of them kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, Matrix4, PosedImage, matrix4
from tasks import stage_files
from tasks.context import Context
from tasks.dense.options import DenseOptions
from tasks.stereo.maps import DepthMap, read_depth_map, write_depth_map
from tasks.stereo.photo import Photo, crosses_cube, fitted, make_photo, read_mask

PHOTO_BYTES = 30
"""Of each pixel of a photo with its coarser copies, and of its depth map."""
LEAST_KEPT = 10
"""A photo and its sources, or every photo would be read several times."""
REGION_MARGIN = 1.05
T = TypeVar("T")


class Kept(Generic[T]):
    """The results of a function of an index, the last `most` of them kept."""

    def __init__(self, make: Callable[[int], T], most: int) -> None:
        self._make = make
        self._most = most
        self._held: OrderedDict[int, T] = OrderedDict()

    def __call__(self, k: int) -> T:
        """The result for `k`."""
        if k not in self._held:
            self._held[k] = self._make(k)
        self._held.move_to_end(k)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return self._held[k]

    def clear(self) -> None:
        """Keep nothing."""
        self._held.clear()


class Workset:
    """What the steps of the stage read.

    Args:
        images: the training photos.
        world_from_field: the region; pixels whose rays miss it are skipped.
    """

    def __init__(
        self, images: Sequence[PosedImage], world_from_field: Matrix4, options: DenseOptions, context: Context
    ) -> None:
        self.images = images
        self.cameras = [fitted(image.camera, options.edge_px) for image in images]
        self._levels = options.levels
        self._region = matrix4(np.array(world_from_field) @ np.diag([REGION_MARGIN] * 3 + [1.0]))
        self._context = context
        pixels = max(camera.width * camera.height for camera in self.cameras)
        most = max(LEAST_KEPT, int(options.photo_memory_gb * 1e9 / (pixels * PHOTO_BYTES)))
        self.photo: Kept[Photo] = Kept(self._read_photo, most)
        self._maps: dict[int, Kept[DepthMap]] = {}
        self._most = most

    def maps(self, round_: int) -> Kept[DepthMap]:
        """The depth maps after a round; those of rounds before the last are let go."""
        if round_ not in self._maps:
            for old in [each for each in self._maps if each < round_ - 1]:
                self._maps.pop(old).clear()
                for path in self._folder(old).glob("*.npz"):
                    path.unlink()
            self._maps[round_] = Kept(lambda k: read_depth_map(self._folder(round_) / f"{k}.npz"), self._most)
        return self._maps[round_]

    def restore(self, round_: int, k: int) -> bool:
        """Whether an earlier attempt saved this map; it is there then."""
        saved = self._context.load_checkpoint(f"round{round_}-{k}.npz")
        if saved is None:
            return False
        saved.replace(self._path(round_, k))
        return True

    def keep(self, round_: int, k: int, found: DepthMap) -> None:
        """Store a map for this attempt and the next."""
        path = self._path(round_, k)
        write_depth_map(path, found)
        self._context.save_checkpoint(f"round{round_}-{k}.npz", path)

    def rgb(self, k: int) -> npt.NDArray[np.uint8]:
        """[H, W, 3] a picture at the size of its depth map."""
        return np.asarray(self._picture(k), dtype=np.uint8)

    def _folder(self, round_: int) -> Path:
        return self._context.scratch / f"round{round_}"

    def _path(self, round_: int, k: int) -> Path:
        self._folder(round_).mkdir(exist_ok=True)
        return self._folder(round_) / f"{k}.npz"

    def _picture(self, k: int) -> Image.Image:
        camera: Camera = self.cameras[k]
        with Image.open(stage_files.fetch_picture(self._context, str(self.images[k].image))) as picture:
            resized: Image.Image = picture.convert("RGB").resize(
                (camera.width, camera.height), Image.Resampling.LANCZOS
            )
        return resized

    def _read_photo(self, k: int) -> Photo:
        image, camera = self.images[k], self.cameras[k]
        mask = crosses_cube(camera, image.c2w, self._region)
        if image.mask is not None:
            mask &= read_mask(stage_files.fetch_picture(self._context, image.mask), camera)
        return make_photo(self._picture(k), camera, image.c2w, mask, self._levels)
