"""Small depth maps of the training photos: what the mask stage knows about where each photo's rays end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, FloatArray, PosedImage, invert_rigid
from tasks.context import Context
from tasks.mask.photos import MaskPhotos
from tasks.stereo import estimate, views
from tasks.stereo.maps import DepthMap
from tasks.stereo.photo import Photo, crosses_cube, fitted, make_photo

MOST_PHOTOS = 60
"""Photos whose depth is estimated, evenly spread: more see nothing new at this size."""
SOURCES, LEVELS = 4, 2
WORST_COST = 0.6
BLOCKED = np.float32(-1.0)
"""In place of a depth where the ray ends before what stereo found: this pixel shows something else."""


@dataclass(frozen=True)
class View:
    """A depth map and its camera."""

    depth: npt.NDArray[np.float32]
    """[H, W] along z, 0 where there is none, or `BLOCKED`."""
    camera: Camera
    w2c: FloatArray

    def with_depth(self, depth: npt.NDArray[np.float32]) -> View:
        """The same view with other depth [H, W]."""
        return replace(self, depth=depth)


def chosen_photos(photos: MaskPhotos) -> list[int]:
    """The photos whose depth is estimated, as indices into `photos.images`."""
    train = [k for k, image in enumerate(photos.images) if image.split == "train"]
    return [train[k] for k in np.unique(np.linspace(0, len(train) - 1, min(MOST_PHOTOS, len(train))).astype(int))]


def depth_views(photos: MaskPhotos, chosen: list[int], edge_px: int, context: Context) -> list[View]:
    """Depth of some photos, refined once by each other's."""
    images = [photos.images[k] for k in chosen]
    seen = np.zeros((len(images), len(photos.points.xyz)), bool)
    for k, index in enumerate(chosen):
        seen[k, photos.seen_by[index]] = True
    plan = views.make_plan(images, photos.poses.world_from_field, photos.points.xyz, seen, SOURCES)
    small = [_small_photo(photos, image, index, edge_px) for image, index in zip(images, chosen, strict=True)]
    settings = estimate.StereoSettings(iterations=3, geometric_iterations=2, worst_cost=WORST_COST)
    seed, threads, count = context.request.seed, context.threads, 2 * len(images)
    first: list[DepthMap] = []
    for k in range(len(images)):
        context.check()
        others = [small[j] for j in plan.sources[k]]
        if others:
            first.append(estimate.estimate(small[k], others, settings, plan.ranges[k], seed + k, threads))
        else:
            first.append(DepthMap.empty(small[k].levels[0].camera))
        context.progress(0.6 * (k + 1) / count, "depth of the capture", {})
    found = []
    for k in range(len(images)):
        context.check()
        others, maps = [small[j] for j in plan.sources[k]], [first[j] for j in plan.sources[k]]
        best = first[k]
        if others:
            best = estimate.refine(small[k], others, settings, plan.ranges[k], best, maps, seed + k, threads)
        found.append(View(best.depth, small[k].levels[0].camera, invert_rigid(images[k].c2w)))
        context.progress(0.6 * (len(images) + k + 1) / count, "depth of the capture", {})
    return found


def _small_photo(photos: MaskPhotos, image: PosedImage, index: int, edge_px: int) -> Photo:
    camera = fitted(image.camera, edge_px)
    picture = Image.fromarray(photos.picture(index)).resize((camera.width, camera.height), Image.Resampling.LANCZOS)
    mask = crosses_cube(camera, image.c2w, photos.poses.world_from_field)
    return make_photo(picture, camera, image.c2w, mask, LEVELS)
