"""The baselines compute what the engine computes, and the posed pictures arrive where their cameras saw them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.baselines import analytic
from bench.baselines.eager import Spec, better_eager_encode, naive_encode, random_points, random_table
from bench.engine_model import padded
from bench.posed import bank, load_views, write_pose_outputs
from models.camera import PoseSet, project
from models.fields.kernels.levels import level_table
from models.fields.kernels.ops import encode
from tasks.train.pixel_bank import load_bank

EYE = np.array([0.0, -4.0, 0.0])


@pytest.mark.parametrize("kind", ["random", "morton", "rays", "pixel_rays"])
def test_baselines_are_the_encoding(kind: str) -> None:
    spec, levels = Spec(12, 6, 4, 60), level_table(6, 4, 60, 12)
    assert [(level.resolution, level.dense) for level in levels] == list(zip(spec.resolutions, spec.dense, strict=True))
    table, x = random_table(spec, scale=1.0), random_points(300, kind)
    ours = encode(x, padded(table, spec, levels), levels)
    assert torch.allclose(naive_encode(x, table, spec), ours, atol=1e-5)
    assert torch.allclose(better_eager_encode(x, table, spec), ours, atol=1e-5)


def test_the_analytic_scene_is_what_its_distances_say() -> None:
    centre, rotation = analytic.pose(0, 8, 0.0)
    assert torch.allclose(rotation.T @ rotation, torch.eye(3), atol=1e-6)
    directions = analytic.rays(rotation)[::97]
    origins = centre.expand(len(directions), 3)
    rgb, hit = analytic.render(origins, directions)
    t = torch.linspace(0.4, 3.0, 4000)
    nearest = torch.stack([analytic.sdf(o + t[:, None] * d).amin() for o, d in zip(origins, directions, strict=True)])
    clear = nearest.abs() > 5e-3
    assert torch.equal(hit[clear] > 0, nearest[clear] < 0)
    assert 0.05 < float(hit.mean()) < 0.5
    assert not rgb[hit == 0].any()
    assert float(rgb[hit > 0].min()) >= 0.0


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """One OpenGL camera at y = -4 that looks along +y, z up; a red, half transparent upper right quarter."""
    (tmp_path / "train").mkdir()
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, 4:] = (255, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "train" / "r_0.png")
    pose = [[1, 0, 0, EYE[0]], [0, 0, -1, EYE[1]], [0, 1, 0, EYE[2]], [0, 0, 0, 1]]
    frame = {"file_path": "./train/r_0", "transform_matrix": pose}
    document = {"camera_angle_x": 2.0 * np.arctan(0.5), "frames": [frame]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(document))
    return tmp_path


def test_posed_pictures_have_opencv_cameras_in_the_field(scene: Path) -> None:
    (view,) = load_views(scene, "train", half_extent=2.0)
    assert view.c2f[:3, 3].tolist() == pytest.approx((EYE / 2.0).tolist())
    world = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.5]])
    pixels, depth = project(view.camera, view.c2f, world / 2.0)
    assert pixels[0].tolist() == pytest.approx([4.0, 4.0])
    assert pixels[1].tolist() == pytest.approx([5.0, 3.0]), "right and up in the world are right and up in the picture"
    assert depth.tolist() == pytest.approx([2.0, 2.0])


def test_posed_pictures_are_composited_and_masked(scene: Path) -> None:
    views = load_views(scene, "train")
    pixels = bank(views, background=1.0, masks=True).take(torch.arange(64))
    red = pixels.used.view(8, 8)
    assert bool(red[:4, 4:].all()) and int(red.sum()) == 16
    assert bool((pixels.rgb[~pixels.used] == 1.0).all())
    assert pixels.rgb[4].tolist() == pytest.approx([1.0, 0.498, 0.498], abs=0.01)
    (small,) = load_views(scene, "train", size=4)
    assert small.rgba[0, 3].tolist() == pytest.approx([1.0, 0.0, 0.0, 128 / 255])
    assert small.camera.width == 4
    assert small.camera.fx == pytest.approx(4.0)
    with pytest.raises(ValueError, match="divides"):
        load_views(scene, "train", size=3)


def test_posed_pictures_pass_the_train_stage_s_door(scene: Path, tmp_path: Path) -> None:
    views = load_views(scene, "train")
    written = write_pose_outputs(tmp_path / "pose", {"train": views}, masks=True)
    poses = PoseSet.model_validate_json((tmp_path / "pose" / "poses.json").read_text())
    assert poses == written
    again = load_bank(poses.images, (tmp_path / "pose").joinpath, poses.world_from_field, 1.0, "cpu", lambda: None)
    for one, other in zip(again.take(torch.arange(64)), bank(views, masks=True).take(torch.arange(64)), strict=True):
        assert torch.allclose(one.double(), other.double(), atol=1e-6)
