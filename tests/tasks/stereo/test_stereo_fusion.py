"""Fusion of exact depth maps with planted errors, and meshes of exact maps."""

from __future__ import annotations

import numpy as np
import pytest

from models.camera import matrix4
from models.mesh.raycast import RayCaster
from models.mesh.topology import signed_volume
from tasks.sample import scenes
from tasks.stereo.fusion import Fusion, FusionSettings, MapView, Points, speckles
from tasks.stereo.maps import DepthMap
from tasks.stereo.surface import finished, poisson_mesh, without_small_parts
from tasks.stereo.tsdf import tsdf_grid, voxels_near, zero_level

VIEWS = 16
MESH = scenes.paint(scenes.sphere(1.0, 5))
SCENE = scenes.make_scene(MESH, scenes.fibonacci_cameras(VIEWS, 120, 90, 4.0))


def exact_maps() -> list[DepthMap]:
    maps = []
    for k, image in enumerate(SCENE.poses.images):
        seen = SCENE.render(k, supersample=1)
        normal = np.where(seen.mask[..., None], seen.normal @ np.array(image.c2w)[:3, :3], 0).astype(np.float32)
        maps.append(DepthMap(np.where(seen.mask, seen.depth, 0), normal, seen.mask.astype(np.float32)))
    return maps


def fused(maps: list[DepthMap], **settings: float) -> tuple[Points, list[np.ndarray]]:
    others = [tuple(j for j in range(VIEWS) if j != k) for k in range(VIEWS)]
    views = [MapView(i.camera, i.c2w, o) for i, o in zip(SCENE.poses.images, others, strict=True)]
    fusion = Fusion(views, maps.__getitem__, FusionSettings.model_validate(settings))
    rows = [fusion.add(k, np.full((90, 120, 3), k, np.uint8)) for k in range(VIEWS)]
    return Points.joined([points for points, _ in rows]), [agreed for _, agreed in rows]


def test_agreeing_maps_give_each_place_once() -> None:
    points, agreed = fused(exact_maps())
    assert np.abs(np.linalg.norm(points.xyz, axis=1) - 1.0).max() < 0.01
    assert (points.normal * points.xyz).sum(1).min() > 0.9  # outwards, towards the cameras
    assert points.views.min() >= 3 and points.confidence.min() == pytest.approx(1.0)
    assert len(points.xyz) < 0.6 * sum(each.sum() for each in agreed)


def test_planted_outliers_are_dropped() -> None:
    maps, rng = exact_maps(), np.random.default_rng(0)
    wrong = []
    for k, each in enumerate(maps):
        bad = (rng.random(each.depth.shape) < 0.1) & (each.depth > 0)
        factor = np.where(rng.random(bad.shape) < 0.5, 0.93, 1.07)
        maps[k] = DepthMap(
            np.where(bad, each.depth * factor, each.depth).astype(np.float32), each.normal, each.confidence
        )
        wrong.append(bad)
    points, agreed = fused(maps)
    assert np.abs(np.linalg.norm(points.xyz, axis=1) - 1.0).max() < 0.02
    kept = sum((a & b).sum() for a, b in zip(agreed, wrong, strict=True))
    assert kept < 0.01 * sum(b.sum() for b in wrong)


def test_normals_and_the_number_of_views_count() -> None:
    maps = exact_maps()
    turned = [DepthMap(m.depth, m.normal[..., [1, 0, 2]] * np.float32(1), m.confidence) for m in maps]
    few, _ = fused(turned)
    every, _ = fused(maps)
    assert len(few.xyz) < 0.8 * len(every.xyz)
    strict, _ = fused(maps, least_views=5)
    assert 0 < len(strict.xyz) < len(every.xyz) and strict.views.min() >= 6


def test_speckles_are_small_pieces_at_one_depth() -> None:
    depth = np.zeros((10, 10))
    depth[:5] = 2.0
    depth[2, 2] = 2.5  # a piece of its own amid others
    depth[8, 1:4] = 3.0
    found = speckles(depth, 4)
    assert found[2, 2] and found[8, 1:4].all() and found.sum() == 4


def test_both_surfaces_are_near_the_truth_and_face_outwards() -> None:
    maps = exact_maps()
    points, agreed = fused(maps)
    world = SCENE.poses.world_from_field
    rows = [(m.where(a), i.camera, i.c2w) for m, a, i in zip(maps, agreed, SCENE.poses.images, strict=True)]
    for raw in (zero_level(tsdf_grid(rows, points.xyz, world, 64), world), poisson_mesh(points, world, 64, 0.05)):
        mesh = finished(raw, points)
        assert RayCaster(MESH, 2).distance(mesh.vertices).mean() < 0.003 * MESH.diagonal
        assert RayCaster(mesh, 2).distance(MESH.vertices).mean() < 0.005 * MESH.diagonal
        assert signed_volume(mesh) > 3.5
        assert mesh.colors is not None and len(np.unique(mesh.colors)) > 5


def test_small_parts_go_and_large_ones_stay() -> None:
    far = scenes.sphere(0.05, 2)
    faces = np.concatenate([MESH.faces, far.faces + len(MESH.vertices)])
    both = type(MESH)(np.concatenate([MESH.vertices, far.vertices + 3.0]), faces)
    assert len(without_small_parts(both, 0.01).faces) == len(MESH.faces)
    assert len(without_small_parts(both, 0.0).faces) == len(faces)


def test_voxels_surround_the_points() -> None:
    found = voxels_near(np.array([[0.0, 0.0, 0.0]]), 32)
    index = np.stack(np.unravel_index(found, (32,) * 3), 1)
    assert len(found) == 12**3 and (index.min(0) == 12).all() and (index.max(0) == 23).all()
    assert len(voxels_near(np.array([[-1.0, -1.0, -1.0]]), 30)) == 8**3
    nothing = zero_level(tsdf_grid([], np.zeros((0, 3), np.float32), matrix4(np.eye(4)), 16), matrix4(np.eye(4)))
    assert len(nothing.faces) == 0
