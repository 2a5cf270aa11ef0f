"""The scenes themselves are true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from models.camera import PoseSet, project
from tasks.sample.scenes import (
    box,
    paint,
    ring_cameras,
    sphere_scene,
    torus,
    write_pose_outputs,
)


def test_the_sphere_fills_the_stated_share_and_is_seen_as_a_disc() -> None:
    scene = sphere_scene(views=6, size=48)
    assert np.array(scene.poses.world_from_field)[0, 0] == 1.0 / 0.6
    view = scene.render(0)
    radius_px = 1.4 * 48 * np.tan(np.arcsin(1 / 4))
    assert abs(view.mask.sum() - np.pi * radius_px**2) < 0.03 * view.mask.sum()
    assert abs(view.depth[24, 24] - 3.0) < 0.01
    assert view.rgb[view.mask].std() > 0.1


def test_pose_outputs_are_complete_and_consistent(tmp_path: Path) -> None:
    cameras = ring_cameras(8, 64, 48, 4.0)
    poses = write_pose_outputs(tmp_path, paint(torus()), cameras, masks=True, points=200)
    assert PoseSet.model_validate_json((tmp_path / "poses.json").read_bytes()) == poses
    assert {image.split for image in poses.images} == {"train", "heldout"}
    with np.load(tmp_path / "points.npz") as points:
        xyz, ptr, idx = points["xyz"], points["visible_ptr"], points["visible_idx"]
        assert len(xyz) == len(ptr) - 1 == len(points["views"]) == len(points["rgb"]) and ptr[-1] == len(idx)
    for number, image in enumerate(poses.images):
        with Image.open(tmp_path / str(image.image)) as picture, Image.open(tmp_path / str(image.mask)) as mask:
            assert picture.size == mask.size == (64, 48)
            seen = np.array([number in idx[ptr[k] : ptr[k + 1]] for k in range(len(xyz))])
            uv = project(image.camera, image.c2w, xyz[seen])[0].astype(int)
            assert np.array(mask)[uv[:, 1], uv[:, 0]].mean() > 0.85 * 255


def test_boxes_keep_their_size() -> None:
    assert np.allclose(np.ptp(box((1, 2, 3)).vertices, axis=0), (1, 2, 3))
