"""The parts of the recipe one by one: mean weights, error map, camera corrections, cascades."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn

from infra.storage import FolderStore
from models.camera import CameraSet, PosedImage, PoseSet, matrix4, project
from models.digest import canonical_json
from models.fields import load_field
from models.fields.render import render_image
from tasks.sample.scenes import box, fibonacci_cameras, paint, sphere, write_pose_outputs
from tasks.train import task
from tasks.train.average import EVERY, WeightAverage
from tasks.train.cameras import CameraRefinement, rotations
from tasks.train.error_map import FORGET, ErrorMap
from tasks.train.methods.hash_density import Options
from tasks.train.pixel_bank import Pixels, load_bank
from tests.tasks.train.train_capture import train_context

# -- mean weights -----------------------------------------------------------------------------------------------------


def test_the_mean_of_the_weights_follows_them() -> None:
    module = nn.Linear(2, 1, bias=False)
    mean = WeightAverage(module, 0.95)
    kept, expected = 0.95**EVERY, None
    for step in range(1, 10 * EVERY + 1):
        module.weight.data.fill_(float(step))
        mean.update(step)
        if step % EVERY == 0:
            weight = 1.0 if expected is None else max(1.0 - kept, EVERY / step)
            expected = step if expected is None else expected + weight * (step - expected)
    assert mean.means["weight"].tolist() == [pytest.approx([expected, expected])]
    with mean.used():
        assert module.weight.tolist() == [pytest.approx([expected, expected])]
    assert module.weight.tolist() == [[10.0 * EVERY] * 2]


# -- error map --------------------------------------------------------------------------------------------------------


def test_rays_go_where_errors_were_seen() -> None:
    errors = ErrorMap([(50, 30), (30, 50)], "cpu")
    everything = torch.arange(2 * 50 * 30)
    column, row = everything % 50, everything // 50
    bad = (everything < 1500) & (column < 10) & (row < 10)
    for _ in range(20):
        errors.note(everything, bad.float())
    drawn = errors.draw(20_000, torch.Generator().manual_seed(0))
    assert int(drawn.min()) >= 0 and int(drawn.max()) < len(everything)
    share = float(bad[drawn].float().mean())
    assert share > 0.7 > 20 * float(bad.float().mean())
    assert len(drawn.unique()) > 1000  # nothing is forgotten for good


def test_what_is_drawn_lies_in_the_cell_it_is_noted_in() -> None:
    errors = ErrorMap([(96, 48), (24, 240)], "cpu")
    drawn = errors.draw(5000, torch.Generator().manual_seed(1))
    errors.errors = torch.zeros_like(errors.errors)
    errors.errors[errors.cells_of(drawn[:1])] = 1e6
    again = errors.draw(2000, torch.Generator().manual_seed(2))
    assert float((errors.cells_of(again) == errors.cells_of(drawn[:1])).float().mean()) > 0.85
    before = errors.errors.clone()
    errors.note(drawn[:1], torch.zeros(1))
    assert float(errors.errors.max()) == pytest.approx(1e6 * (1 - FORGET))
    assert int((errors.errors != before).sum()) == 1


def test_only_the_photos_at_hand_are_drawn_from() -> None:
    errors = ErrorMap([(20, 20)] * 3, "cpu")
    drawn = errors.draw(500, torch.Generator().manual_seed(0), torch.tensor([False, True, False]))
    assert int(drawn.min()) >= 400 and int(drawn.max()) < 800


# -- cameras ----------------------------------------------------------------------------------------------------------


def test_rotations_are_rotations_and_differentiable_at_zero() -> None:
    vectors = torch.tensor([[0.0, 0, 0], [0, 0, torch.pi / 2], [1e-5, 0, 0], [0.3, -0.2, 0.9]], dtype=torch.float64)
    found = rotations(vectors)
    assert torch.allclose(found @ found.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    assert torch.allclose(found[1] @ torch.tensor([1.0, 0, 0]).double(), torch.tensor([0.0, 1, 0]).double())
    assert torch.autograd.gradcheck(rotations, vectors.requires_grad_(True))


def test_corrections_never_move_the_scene_as_a_whole() -> None:
    centres = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 3))).float()
    cameras = CameraRefinement(centres)
    turn, shift, growth = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 0.0, -0.1]), 0.07
    moved = torch.linalg.cross(turn.expand(9, 3), centres) + shift + growth * centres
    cameras.raw.data = torch.cat([turn.expand(9, 3), moved], 1)
    assert float(cameras.deltas().detach().abs().max()) < 1e-6
    cameras.raw.data[4] += 0.1
    assert float(cameras.deltas().detach()[4].min()) > 0.02


def test_rays_and_refined_cameras_agree(tmp_path: Path) -> None:
    images = fibonacci_cameras(6, 12, 9, 4.0)
    poses = write_pose_outputs(tmp_path, paint(sphere()), images, points=20)
    world_from_field = np.array([[0.0, -2, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]])
    bank = load_bank(poses.images, tmp_path.joinpath, world_from_field, 1.0, "cpu", lambda: None)
    cameras = CameraRefinement(bank.centres)
    cameras.raw.data = 0.05 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    refined = cameras.refined(poses.images, world_from_field)
    moved = load_bank(refined.images, tmp_path.joinpath, world_from_field, 1.0, "cpu", lambda: None)
    every = torch.arange(bank.pixels)
    ours: Pixels = cameras(bank.take(every))
    assert torch.allclose(ours.rays_o, moved.take(every).rays_o, atol=1e-5)
    assert torch.allclose(ours.rays_d, moved.take(every).rays_d, atol=1e-5)


def _perturbed(folder: Path, degrees: float, shift: float) -> tuple[FolderStore, PoseSet, PoseSet]:
    """A capture whose training poses are off; also the poses given and the true ones."""
    path = folder / "store" / "pose" / "poses.json"
    body = paint(box((1.2, 1.0, 0.8)))
    truth = write_pose_outputs(path.parent, body, fibonacci_cameras(28, 48, 48, 4.0), masks=True, points=20)
    rng, images = np.random.default_rng(5), []
    for image in truth.images:
        axis, move = rng.normal(size=(2, 3))
        turn = rotations(torch.from_numpy(np.radians(degrees) * axis / np.linalg.norm(axis))[None])[0].numpy()
        c2w = np.array(image.c2w)
        if image.split == "train":
            c2w[:3, :3] = turn @ c2w[:3, :3]
            c2w[:3, 3] += shift * move / np.linalg.norm(move)
        images.append(image.model_copy(update={"c2w": matrix4(c2w)}))
    given = truth.model_copy(update={"images": tuple(images)})
    path.write_bytes(canonical_json(given))
    return FolderStore(folder / "store"), given, truth


def _pose_errors(images: Sequence[PosedImage], truth: Sequence[PosedImage]) -> tuple[float, float]:
    """Mean error of the rotations in degrees, and of where points of the body appear in pixels."""
    points = np.random.default_rng(0).normal(size=(100, 3))
    points /= 2.0 * np.linalg.norm(points, axis=1, keepdims=True)
    angles, distances = [], []
    for a, b in zip(images, truth, strict=True):
        turn = np.array(a.c2w)[:3, :3] @ np.array(b.c2w)[:3, :3].T
        angles.append(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
        moved = project(a.camera, a.c2w, points)[0] - project(b.camera, b.c2w, points)[0]
        distances.append(np.linalg.norm(moved, axis=1).mean())
    return float(np.mean(angles)), float(np.mean(distances))


def test_wrong_cameras_come_closer_to_the_truth(tmp_path: Path) -> None:
    store, given, truth = _perturbed(tmp_path, degrees=1.0, shift=0.04)
    results = {}
    for refine in (False, True):
        options = {"steps": 400, "samples_per_step": 4000, "evaluate_every": 400, "mask_use": "empty"}
        context = train_context(store, tmp_path / str(refine), **options, refine_cameras=refine)
        results[refine] = task.run(context.request, context)
        assert (context.output / "cameras.json").exists() == refine
    refined = CameraSet.model_validate_json((context.output / "cameras.json").read_text())
    true, before = truth.of_split("train"), given.of_split("train")
    first, last = _pose_errors(before, true), _pose_errors(refined.images, true)
    assert first[0] == pytest.approx(1.0)
    assert last[0] < 0.85 * first[0] and last[1] < 0.5 * first[1]
    for name, gain in (("psnr_train", 2.0), ("psnr_heldout", 0.2)):
        assert results[True].facts[name] > results[False].facts[name] + gain
    change = json.loads((context.output / "train.json").read_text())["camera_change"]
    assert 0.1 < change["mean_deg"] < change["largest_deg"] < 3.0


# -- cascades ---------------------------------------------------------------------------------------------------------


def test_what_lies_outside_the_cube_is_learned_in_the_outer_one(tmp_path: Path) -> None:
    """The region of interest is half a ball: the rest of it needs the second cube."""
    images = fibonacci_cameras(24, 40, 40, 4.0)
    path = tmp_path / "store" / "pose" / "poses.json"
    poses = write_pose_outputs(path.parent, paint(sphere()), images, points=20, background=(0.0, 0.0, 0.0))
    small = np.diag([0.6, 0.6, 0.6, 1.0])
    path.write_bytes(canonical_json(poses.model_copy(update={"world_from_field": matrix4(small)})))
    fields = {}
    for cascades in (1, 2):
        options = {"steps": 250, "samples_per_step": 6000, "evaluate_every": 250, "near": 0.3, "minimum_views": 2}
        context = train_context(
            FolderStore(tmp_path / "store"), tmp_path / str(cascades), background_levels=0, cascades=cascades, **options
        )
        task.run(context.request, context)
        fields[cascades] = load_field(context.output / "model")
    view = poses.of_split("heldout")[0]
    with Image.open(path.parent / str(view.image)) as photo:
        seen = np.asarray(photo) / 255.0
    errors = {
        cascades: float(np.mean((render_image(field, view.camera, view.c2w, small).rgb - seen) ** 2))
        for cascades, field in fields.items()
    }
    assert fields[2].extent == 2.0
    assert errors[2] < 0.4 * errors[1]


def test_surroundings_are_modelled_once() -> None:
    with pytest.raises(ValidationError, match="background_levels"):
        Options(cascades=2)
    assert Options(cascades=2, background_levels=0).cascades == 2
