"""Photos of a painted body, with its exact depth, as stereo reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from models.camera import PosedImage
from models.mesh.raycast import Render
from tasks.sample import scenes
from tasks.stereo import views
from tasks.stereo.estimate import DepthRange
from tasks.stereo.photo import Photo, make_photo


@dataclass(frozen=True)
class Shots:
    """A scene, seen by all its cameras."""

    images: tuple[PosedImage, ...]
    truth: tuple[Render, ...]
    photos: tuple[Photo, ...]
    sources: list[tuple[int, ...]]
    ranges: list[DepthRange]
    diagonal: float


@cache
def shots(kind: str) -> Shots:
    """Twelve views of 160 x 120 pixels, with exact masks."""
    body = scenes.sphere(1.0, 6) if kind == "sphere" else scenes.box((1.2, 1.0, 0.8), 7)
    mesh = scenes.paint(body, 12.0)
    images = scenes.ring_cameras(12, 160, 120, 4.0, (20.0, 55.0))
    scene = scenes.make_scene(mesh, images)
    truth = tuple(scene.render(k) for k in range(len(images)))
    rows = zip(images, truth, strict=True)
    photos = tuple(make_photo(picture_of(seen.rgb), image.camera, image.c2w, seen.mask, 3) for image, seen in rows)
    world = scene.poses.world_from_field
    xyz = views.region_points(world)
    seen = views.facing_points(images, world, xyz)
    ranges = [views.depth_range(image, world, xyz, s) for image, s in zip(images, seen, strict=True)]
    return Shots(images, truth, photos, views.choose_sources(images, xyz, seen, 6), ranges, mesh.diagonal)


def picture_of(rgb: np.ndarray) -> Image.Image:
    """A picture of colours [H, W, 3] in [0, 1]."""
    return Image.fromarray(np.round(rgb * 255).astype(np.uint8))
