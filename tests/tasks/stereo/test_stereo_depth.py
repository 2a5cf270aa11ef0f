"""Depth of rendered bodies against the truth; pixels that nothing places have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.dense.options import DenseOptions
from tasks.sample import scenes
from tasks.stereo import kernel
from tasks.stereo.estimate import StereoSettings, estimate, refine
from tasks.stereo.maps import DepthMap, read_depth_map, write_depth_map
from tasks.stereo.photo import crosses_cube, make_photo
from tasks.stereo.views import LEAST_ANGLE, MOST_ANGLE, choose_sources, region_points
from tests.tasks.stereo.stereo_scene import Shots, picture_of, shots

SETTINGS = StereoSettings()
needs_kernel = pytest.mark.skipif(kernel.library() is None, reason="the stereo kernel is not built here")


def first_map(scene: Shots, k: int) -> DepthMap:
    sources = [scene.photos[j] for j in scene.sources[k]]
    return estimate(scene.photos[k], sources, SETTINGS, scene.ranges[k], seed=k, threads=2)


def refined_map(scene: Shots, k: int, maps: list[DepthMap], round_: int) -> DepthMap:
    sources, theirs = [scene.photos[j] for j in scene.sources[k]], [maps[j] for j in scene.sources[k]]
    seed = 99 + round_
    return refine(scene.photos[k], sources, SETTINGS, scene.ranges[k], maps[k], theirs, seed=seed, threads=2)


@needs_kernel
@pytest.mark.parametrize("kind", ["sphere", "box"])
def test_depth_is_within_a_percent_of_the_truth(kind: str) -> None:
    scene, k = shots(kind), 1
    maps = [first_map(scene, j) for j in range(len(scene.photos))]
    for round_ in range(DenseOptions().geometric_rounds):
        maps = [refined_map(scene, j, maps, round_) for j in range(len(scene.photos))]
    found = maps[k]
    truth = scene.truth[k]
    off = np.abs(found.depth - truth.depth)[truth.mask] / scene.diagonal
    assert ((off < 0.01) & (found.depth[truth.mask] > 0)).mean() > 0.9
    assert np.median(off) < 0.003
    assert not found.depth[~truth.mask].any()  # masked pixels are skipped
    facing = found.normal @ np.array(scene.images[k].c2w)[:3, :3].T
    angle = np.degrees(np.arccos(np.clip((facing * truth.normal).sum(2)[found.depth > 0], -1, 1)))
    assert np.median(angle) < 8.0


@needs_kernel
def test_a_photo_without_texture_has_no_depth() -> None:
    scene = shots("sphere")
    plain = make_photo(
        picture_of(np.full((120, 160, 3), 0.5)), scene.images[1].camera, scene.images[1].c2w, scene.truth[1].mask, 3
    )
    sources = [scene.photos[j] for j in scene.sources[1]]
    found = estimate(plain, sources, SETTINGS, scene.ranges[1])
    assert not found.depth.any() and not found.confidence.any()


def test_depth_maps_survive_their_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(5, 7, 3))
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    made = DepthMap(*(each.astype(np.float32) for each in (rng.random((5, 7)), normal, rng.random((5, 7)))))
    write_depth_map(tmp_path / "a.npz", made)
    read = read_depth_map(tmp_path / "a.npz")
    assert np.array_equal(read.depth, made.depth)
    assert (read.normal * made.normal).sum(2).min() > 0.9999
    assert np.abs(read.confidence - made.confidence).max() <= 0.5 / 255 + 1e-6


def test_sources_see_the_same_place_from_useful_angles() -> None:
    # cameras on a circle: 1, 10, 30 and 90 degrees from the first
    angles = np.radians([0.0, 1.0, 10.0, 30.0, 90.0])
    eyes = np.stack([4 * np.cos(angles), 4 * np.sin(angles), np.zeros(5)], 1)
    images = scenes.posed(eyes, scenes.pinhole(160, 120))
    world = scenes.make_scene(scenes.sphere(0.2, 1), images).poses.world_from_field
    xyz = region_points(world)
    chosen = choose_sources(images, xyz, np.ones((5, len(xyz)), bool), 6)
    assert chosen[0] == (2, 3)
    assert LEAST_ANGLE > 1 and MOST_ANGLE < 90
    assert choose_sources(images, xyz, np.ones((5, len(xyz)), bool), 1)[0] == (2,)


def test_rays_beside_the_region_are_skipped() -> None:
    image = scenes.posed(np.array([[4.0, 0.0, 0.0]]), scenes.pinhole(160, 120))[0]
    world = scenes.make_scene(scenes.sphere(0.3), (image,)).poses.world_from_field
    inside = crosses_cube(image.camera, image.c2w, world)
    assert inside[60, 80] and not inside[0, 0] and not inside[60, 0]
    # a cube of side 1, its front face 3.5 away: 64 pixels wide
    assert inside[60].sum() == pytest.approx(160 * 1.4 / 3.5, abs=2)
