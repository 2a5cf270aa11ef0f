"""Posed synthetic pictures (`transforms_*.json` with RGBA files, as NeRF's Blender scenes come) as banks of pixels.

The files' cameras have OpenGL axes (x right, y up, z backward); they leave here with OpenCV's. The object's cube, 3
wide in those scenes' world, becomes the field's [-1, 1]^3.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import OPENGL_FROM_OPENCV, Camera, FloatArray, PosedImage, PoseSet, apply_similarity_to_c2w, matrix4
from tasks.train.pixel_bank import PixelBank

HALF_EXTENT = 1.5
"""Half the edge of the cube around the origin that holds the object, in the scenes' world."""
SPLITS = {"train": "train", "test": "heldout"}


@dataclass(frozen=True)
class View:
    """One picture with its camera in the field's coordinates."""

    name: str
    camera: Camera
    c2f: FloatArray
    """[4, 4] camera to field, OpenCV axes."""
    rgba: npt.NDArray[np.float32]
    """[H, W, 4] sRGB in [0, 1] with straight alpha."""

    @property
    def alpha(self) -> npt.NDArray[np.float32]:
        """[H, W] in [0, 1]."""
        return self.rgba[..., 3]

    def over(self, background: float | npt.ArrayLike) -> npt.NDArray[np.float32]:
        """[H, W, 3] the picture over a brightness or an sRGB colour [3] (or one a pixel, [H, W, 3])."""
        alpha = self.rgba[..., 3:]
        behind = np.broadcast_to(np.asarray(background, dtype=np.float32), self.rgba[..., :3].shape)
        blended: npt.NDArray[np.float32] = self.rgba[..., :3] * alpha + (1.0 - alpha) * behind
        return blended


def load_views(folder: Path, split: str, half_extent: float = HALF_EXTENT, size: int | None = None) -> list[View]:
    """The views of one split, in the file's order.

    Args:
        folder: holds `transforms_<split>.json` and the pictures that it names.
        split: `train` or `test`.
        half_extent: of the cube around the world's origin that becomes [-1, 1]^3.
        size: longer edge in pixels to shrink the pictures to (means of pixels, weighted with alpha).

    Raises:
        FileNotFoundError, KeyError: files or entries are missing.
    """
    document = json.loads((folder / f"transforms_{split}.json").read_text())
    angle = float(document["camera_angle_x"])
    field_from_world = np.diag([1.0 / half_extent] * 3 + [1.0])
    views = []
    for frame in document["frames"]:
        path = folder / str(frame["file_path"])
        rgba = _read(path if path.suffix else path.with_suffix(".png"), size)
        height, width = rgba.shape[:2]
        focal = 0.5 * width / math.tan(0.5 * angle)
        camera = Camera(width=width, height=height, fx=focal, fy=focal, cx=width / 2, cy=height / 2)
        c2w = np.array(frame["transform_matrix"], dtype=np.float64) @ OPENGL_FROM_OPENCV
        views.append(View(f"{split}/{path.name}", camera, apply_similarity_to_c2w(field_from_world, c2w), rgba))
    return views


def _read(path: Path, size: int | None) -> npt.NDArray[np.float32]:
    with Image.open(path) as picture:
        rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255.0
    if size is None or size >= max(rgba.shape[:2]):
        return rgba
    factor, rest = divmod(max(rgba.shape[:2]), size)
    if rest or any(edge % factor for edge in rgba.shape[:2]):
        raise ValueError(f"expected a size that divides {rgba.shape[1]}x{rgba.shape[0]}, found {size}")
    rgba[..., :3] *= rgba[..., 3:]
    height, width = rgba.shape[0] // factor, rgba.shape[1] // factor
    small: npt.NDArray[np.float32] = rgba.reshape(height, factor, width, factor, 4).mean((1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small


def bank(
    views: list[View], background: float = 1.0, masks: bool = False, straight: bool = False, device: str = "cpu"
) -> PixelBank:
    """The views as training or evaluation pixels, composited over a brightness.

    Args:
        background: 1 for white, as published figures have it.
        masks: keep alpha as masks.
        straight: the colours as they are instead of over the background.
    """
    colours = [view.rgba[..., :3] if straight else view.over(background) for view in views]
    rgb = [np.round(colour * 255.0).astype(np.uint8) for colour in colours]
    silhouettes = [np.round(view.alpha * 255.0).astype(np.uint8) if masks else None for view in views]
    return PixelBank([view.camera for view in views], np.stack([v.c2f for v in views]), rgb, silhouettes, device)


def write_pose_outputs(
    folder: Path, views: dict[str, list[View]], background: float = 1.0, masks: bool = False
) -> PoseSet:
    """Write views as the pose stage would (poses.json, images/, masks/), so that the train stage's door takes them.

    Args:
        folder: made if need be.
        views: of `train` and `test`; the latter are held out.
        background: brightness that the pictures are composited over.
        masks: also write the silhouettes.

    Returns:
        the poses as written; their world is the field's cube.
    """
    images = []
    for split, part in views.items():
        for view in part:
            name = view.name.replace("/", "_") + ".png"
            files = {"images": np.round(view.over(background) * 255.0).astype(np.uint8)}
            if masks:
                files["masks"] = np.round(view.alpha * 255.0).astype(np.uint8)
            for kind, pixels in files.items():
                (folder / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / kind / name)
            images.append(
                PosedImage(
                    name=name,
                    camera=view.camera,
                    c2w=matrix4(view.c2f),
                    image=f"images/{name}",
                    mask=f"masks/{name}" if masks else None,
                    split="heldout" if SPLITS[split] == "heldout" else "train",
                )
            )
    poses = PoseSet(images=tuple(images), world_from_field=matrix4(np.eye(4)))
    (folder / "poses.json").write_text(poses.model_dump_json())
    return poses
