"""Planes between sure pixels, against exact depth; and stereo of a box with a plain lid, with and without them."""

from __future__ import annotations

import numpy as np
import pytest

from models.camera import matrix4
from tasks.sample import scenes
from tasks.stereo import kernel
from tasks.stereo.estimate import StereoSettings, estimate, refine
from tasks.stereo.fusion import Fusion, FusionSettings, MapView, back_project
from tasks.stereo.maps import DepthMap
from tasks.stereo.photo import Photo, make_photo
from tasks.stereo.planar import LONGEST_PX, plain, planes_between
from tests.tasks.stereo.stereo_scene import picture_of, shots

CAMERA = scenes.pinhole(160, 120)
HEIGHT, WIDTH = CAMERA.height, CAMERA.width
SETTINGS = StereoSettings()
needs_kernel = pytest.mark.skipif(kernel.library() is None, reason="the stereo kernel is not built here")


def grey_photo(values: np.ndarray | None = None) -> Photo:
    shown = np.full((HEIGHT, WIDTH), 0.5) if values is None else values
    return make_photo(picture_of(np.repeat(shown[..., None], 3, 2)), CAMERA, matrix4(np.eye(4)), None, 1)


def tilted_map(slope: float = 0.3) -> DepthMap:
    """Depth of the plane z = 4 + slope x."""
    x = (np.arange(WIDTH) + 0.5 - CAMERA.cx) / CAMERA.fx
    depth = np.tile(4.0 / (1.0 - slope * x), (HEIGHT, 1)).astype(np.float32)
    ones = np.ones((HEIGHT, WIDTH), np.float32)
    return DepthMap(depth, np.tile(np.float32([0, 0, -1]), (HEIGHT, WIDTH, 1)), ones)


def frame(low: int, high: int) -> np.ndarray:
    """[H, W] the rim of a square of pixels."""
    sure = np.zeros((HEIGHT, WIDTH), bool)
    sure[low:high, low:high] = True
    sure[low + 3 : high - 3, low + 3 : high - 3] = False
    return sure


def test_planes_fill_what_lies_between_sure_pixels() -> None:
    found, sure = tilted_map(), frame(20, 90)
    planes = planes_between(grey_photo().levels[0], found.where(sure), sure)
    within = np.zeros_like(sure)
    within[26:84, 26:84] = True
    assert (planes.depth[within] > 0).mean() > 0.99 and not planes.depth[100:].any()
    assert np.abs(planes.depth[within] / found.depth[within] - 1.0).max() < 1e-4
    expected = np.array([0.3, 0.0, -1.0]) / np.hypot(0.3, 1.0)
    assert np.abs(planes.normal[within] - expected).max() < 1e-3


def test_textured_pixels_get_no_plane() -> None:
    noise = np.random.default_rng(0).choice([0.46, 0.54], (HEIGHT, WIDTH))
    noise[:, :80] = 0.5
    photo, sure = grey_photo(noise), frame(10, 110)
    planes = planes_between(photo.levels[0], tilted_map().where(sure), sure)
    assert planes.depth[30:80, 30:70].all() and not planes.depth[:, 90:].any()
    assert plain(photo.levels[0])[:, :70].all()


def test_a_pixel_of_another_colour_is_not_on_the_plane() -> None:
    shown = np.full((HEIGHT, WIDTH), 0.5)
    shown[40:80, 40:80] = 0.3  # seen through a gap
    sure = frame(20, 100)
    planes = planes_between(grey_photo(shown).levels[0], tilted_map().where(sure), sure)
    assert not planes.depth[42:78, 42:78].any() and (planes.depth[26:30, 30:90] > 0).mean() > 0.98


def test_a_thing_is_not_joined_with_what_lies_behind_it() -> None:
    depth = np.where(np.arange(WIDTH) < 60, 2.0, 8.0) * np.ones((HEIGHT, 1))
    sure = frame(20, 100)
    sure[:, 55:65] = False
    flat = DepthMap(depth.astype(np.float32), tilted_map().normal, np.ones_like(depth, np.float32))
    planes = planes_between(grey_photo().levels[0], flat.where(sure), sure)
    between = planes.depth[30:90, 58:62]
    assert ((between == 0) | np.isclose(between, 2.0, rtol=0.01) | np.isclose(between, 8.0, rtol=0.01)).all()


def test_far_pixels_span_no_plane() -> None:
    found = tilted_map()
    sure = np.zeros((HEIGHT, WIDTH), bool)
    sure[:, :4] = sure[:, -4:] = True
    assert LONGEST_PX < WIDTH - 8
    planes = planes_between(grey_photo().levels[0], found.where(sure), sure)
    assert not planes.depth[:, 40:120].any()
    none = planes_between(grey_photo().levels[0], found, np.zeros_like(sure))
    assert not none.depth.any()


@needs_kernel
def test_a_plain_lid_gets_its_depth() -> None:
    scene = shots("box")
    plain_at, photos = [], []
    noise = np.random.default_rng(1)
    for image, seen in zip(scene.images, scene.truth, strict=True):
        view = MapView(image.camera, image.c2w, ())
        rows, columns = np.nonzero(seen.mask)
        xyz = back_project(view, np.stack([columns, rows], 1) + 0.5, seen.depth[rows, columns].astype(np.float32))
        lid = np.zeros(seen.mask.shape, bool)
        lid[rows, columns] = (xyz[:, 2] > 0.39) & (np.abs(xyz[:, 0]) < 0.45) & (np.abs(xyz[:, 1]) < 0.35)
        rgb = np.where(lid[..., None], 0.6, seen.rgb) + noise.normal(0, 0.004, (*seen.mask.shape, 1))
        photos.append(make_photo(picture_of(rgb.clip(0, 1)), image.camera, image.c2w, seen.mask, 3))
        plain_at.append(lid)
    rows_of = list(zip(photos, scene.sources, scene.ranges, strict=True))
    first = [estimate(p, [photos[j] for j in s], SETTINGS, r, seed=k, threads=2) for k, (p, s, r) in enumerate(rows_of)]
    views = [MapView(i.camera, i.c2w, s) for i, s in zip(scene.images, scene.sources, strict=True)]
    fusion = Fusion(views, first.__getitem__, FusionSettings())
    shares = {}
    for with_planes in (False, True):
        right = total = 0
        for k in (1, 3, 5):
            photo, sources, depths = rows_of[k]
            planes = planes_between(photo.levels[0], first[k], fusion.agreed(k)) if with_planes else None
            others, maps = [photos[j] for j in sources], [first[j] for j in sources]
            found = refine(photo, others, SETTINGS, depths, first[k], maps, seed=99, threads=2, planes=planes)
            off = np.abs(found.depth - scene.truth[k].depth)[plain_at[k]] / scene.diagonal
            right, total = right + int((off < 0.01).sum()), total + len(off)
        shares[with_planes] = right / total
    assert shares[True] > 0.9 > 0.7 > shares[False], shares
