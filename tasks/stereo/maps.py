"""Depth maps and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifacts import DEPTH_FOLDER
from models.camera import Camera, PosedImage

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DepthMap:
    """The surface that one photo sees."""

    depth: Float32Array
    """[H, W] along the camera's z in world units, 0 where nothing was found."""
    normal: Float32Array
    """[H, W, 3] unit normals in camera axes, towards the camera; zero where there is no depth."""
    confidence: Float32Array
    """[H, W] in [0, 1]: mean correlation (NCC) with the photos that were compared; 0 where there is no depth."""

    @staticmethod
    def empty(camera: Camera) -> DepthMap:
        """A map of the camera's size without any depth."""
        shape = (camera.height, camera.width)
        return DepthMap(np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32))

    def where(self, keep: npt.NDArray[np.bool_]) -> DepthMap:
        """The map of the pixels `keep` [H, W] alone."""
        return DepthMap(
            np.where(keep, self.depth, 0).astype(np.float32),
            np.where(keep[..., None], self.normal, 0).astype(np.float32),
            np.where(keep, self.confidence, 0).astype(np.float32),
        )


def depth_path(image: PosedImage) -> str:
    """The path of a photo's depth map in the outputs of the dense stage: pictures have unique names."""
    return f"{DEPTH_FOLDER}/{Path(str(image.image)).stem}.npz"


def write_depth_map(path: Path, found: DepthMap, filled: Float32Array | None = None) -> None:
    """Write `depth` float32, `normal` int8 (127 = 1) and `confidence` uint8 (255 = 1), compressed.

    Args:
        filled: [H, W] depth where the map has none, from what others measured; 0 for none. Written as `filled`.
    """
    more: dict[str, Any] = {} if filled is None else {"filled": filled.astype(np.float32)}
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            depth=found.depth,
            normal=np.round(found.normal * 127.0).astype(np.int8),
            confidence=np.round(found.confidence * 255.0).astype(np.uint8),
            **more,
        )


def read_filled_depth(path: Path) -> Float32Array:
    """[H, W] the depth of a file of `write_depth_map`, its gaps filled where others measured them."""
    with np.load(path) as data:
        depth: Float32Array = data["depth"]
        return np.where(depth > 0, depth, data["filled"]) if "filled" in data else depth


def read_depth_map(path: Path) -> DepthMap:
    """Read a file of `write_depth_map`, without what was filled; normals have length one again."""
    with np.load(path) as data:
        depth, normal, confidence = data["depth"], data["normal"].astype(np.float32), data["confidence"]
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    normal = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    return DepthMap(depth, normal, confidence.astype(np.float32) / np.float32(255.0))
