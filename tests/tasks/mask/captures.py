"""Captures of painted bodies with exact cameras and points, committed as the pose stage would, for the mask stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh
from PIL import Image

from models.camera import Plane, PosedImage
from models.mesh.mesh import Mesh
from models.mesh.raycast import render_textured
from models.results import StageRequest
from models.stage import Stage
from models.weights import listed
from tasks import registry
from tasks.context import Context
from tasks.saliency.u2net import EXTERNAL, WEIGHTS
from tasks.sample.scenes import from_trimesh, paint, ring_cameras, write_pose_outputs
from tests.support import make_context, ref_of

SIZE = (240, 200)
Backdrop = Callable[[int], npt.NDArray[np.uint8]]
"""Number of a photo -> [H, W, 3] what lies behind the body."""


def body() -> Mesh:
    """A painted vase-like body, 2 units high, on z = -1."""
    profile = [[0.0, -1.0], [0.5, -1.0], [0.8, -0.4], [0.6, 0.3], [0.35, 0.7], [0.5, 1.0], [0.0, 1.0]]
    made = trimesh.creation.revolve(np.array(profile), sections=64)
    for _ in range(2):
        made = made.subdivide()
    return paint(from_trimesh(made))


def cameras(views: int = 12) -> tuple[PosedImage, ...]:
    """Two rings around the body."""
    return ring_cameras(views, *SIZE, 5.5, (15.0, 40.0))


def noise(seed: int = 0) -> Backdrop:
    """Another wall of coarse noise behind each photo."""

    def draw(index: int) -> npt.NDArray[np.uint8]:
        rng = np.random.default_rng([seed, index])
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        return np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC))

    return draw


def floor() -> Backdrop:
    """A light wall above a darker floor, with a few faint stripes: an ordinary room."""

    def draw(index: int) -> npt.NDArray[np.uint8]:
        picture = np.full((SIZE[1], SIZE[0], 3), 205, np.uint8)
        picture[int(0.55 * SIZE[1]) :] = (150, 140, 130)
        picture[:, (7 * index) % 40 :: 40] -= 12
        return picture

    return draw


class MaskCapture:
    """A capture in a folder, and contexts for the mask stage on it."""

    def __init__(self, root: Path, backdrop: Backdrop | None = None, views: int = 12) -> None:
        self.root, self.mesh = root, body()
        self.folder = root / "store" / "work" / "pose"
        support = Plane(normal=(0.0, 0.0, 1.0), offset=1.0)
        self.poses = write_pose_outputs(self.folder, self.mesh, cameras(views), support=support, points=1500)
        self.truth = [
            render_textured(self.mesh, image.camera, image.c2w, supersample=1).mask for image in self.poses.images
        ]
        if backdrop is not None:
            for index in range(views):
                self.paste(index, backdrop(index))

    def picture_path(self, index: int) -> Path:
        return self.folder / str(self.poses.images[index].image)

    def paste(self, index: int, behind: npt.NDArray[np.uint8]) -> None:
        """Put something behind the body in one photo."""
        view = render_textured(self.mesh, self.poses.images[index].camera, self.poses.images[index].c2w, supersample=1)
        rgb = np.where(view.mask[..., None], np.round(np.clip(view.rgb, 0, 1) * 255), behind).astype(np.uint8)
        Image.fromarray(rgb).save(self.picture_path(index), quality=97, subsampling=0)

    def context(self, name: str = "run", method: str = "saliency", threads: int = 1, **options: Any) -> Context:
        module = registry.method(Stage.MASK, method)
        inputs = {"pose": ref_of(self.folder, "store:work/pose")}
        if method == "saliency":
            inputs[EXTERNAL] = listed()[WEIGHTS].ref
        request = StageRequest(
            asset="vase", stage=Stage.MASK, method=method, version=module.VERSION, options=options, inputs=inputs
        )
        (self.root / name).mkdir(exist_ok=True)
        if not (self.root / name / "store").exists():
            (self.root / name / "store").symlink_to(self.root / "store")
        return make_context(request, self.root / name, threads=threads)

    def overlaps(self, context: Context) -> list[float]:
        """IoU of each mask that was written with the true silhouette; 0 where none was."""
        found = []
        for image, truth in zip(self.poses.images, self.truth, strict=True):
            path = context.output / "masks" / f"{Path(image.name).stem}.png"
            mask = np.asarray(Image.open(path)) > 0 if path.exists() else np.zeros_like(truth)
            found.append(float((mask & truth).sum() / (mask | truth).sum()))
        return found
