"""Masks after dense stereo: wrong pieces go, lost pieces come back, and masks that people gave stay as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.camera import PoseSet
from models.quality import Verdict
from tasks.dense.masks import alike, held_faces, refined_mask
from tasks.dense.task import run
from tasks.stereo import kernel
from tests.tasks.dense.dense_capture import painted, stage, write_pose

VIEWS = 20
BITTEN, SMEARED = 3, 8
"""Photos whose mask lost a piece of the ball, and whose mask holds a piece of what is beside it."""
needs_kernel = pytest.mark.skipif(kernel.library() is None, reason="the stereo kernel is not built here")


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L")) > 127


def write_wrong_masks(folder: Path) -> PoseSet:
    """A capture whose masks were found, two of them wrong; its poses."""
    write_pose(folder, painted(), views=VIEWS)
    poses = PoseSet.model_validate_json((folder / "poses.json").read_bytes())
    poses = poses.model_copy(update={"mask_tolerance_px": 2.0})
    (folder / "poses.json").write_text(poses.model_dump_json())
    for k in (BITTEN, SMEARED):
        path = folder / str(poses.images[k].mask)
        mask = read(path)
        rows, columns = np.nonzero(mask)
        if k == BITTEN:
            mask[rows.min() - 1 : rows.min() + 14, :] = False
        else:
            mask[rows.min() : rows.min() + 20, columns.max() - 4 : columns.max() + 16] = True
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return poses


@needs_kernel
def test_two_wrong_masks_are_mended_by_what_the_others_and_stereo_hold(tmp_path: Path) -> None:
    exact, wrong = tmp_path / "exact", tmp_path / "wrong"
    write_pose(exact, painted(), views=VIEWS)
    poses = write_wrong_masks(wrong)
    context = stage(tmp_path / "run", wrong, iterations=2, geometric_rounds=1)
    result = run(context.request, context)
    assert result.verdict is Verdict.ACCEPT
    assert result.facts["masks_refined"] == VIEWS and 0.9 < result.facts["masks_alike"] < 1.0
    assert json.loads((context.output / "dense.json").read_text())["masks_refined"] == VIEWS
    new = PoseSet.model_validate_json((context.output / "poses.json").read_bytes())
    assert new == poses  # nothing but the pictures of the masks changes
    before, after = [], []
    for image in poses.images:
        truth = read(exact / str(image.mask))
        before.append(alike(read(wrong / str(image.mask)), truth))
        after.append(alike(read(context.output / str(image.mask)), truth))
    assert max(before[BITTEN], before[SMEARED]) < 0.97
    assert min(after[BITTEN], after[SMEARED]) > 0.98
    assert np.mean(after) > np.mean(before) and min(after) > 0.96


@needs_kernel
def test_masks_that_people_gave_are_not_touched(tmp_path: Path) -> None:
    write_pose(tmp_path / "pose", painted(), views=VIEWS)
    context = stage(tmp_path / "run", tmp_path / "pose", iterations=2, geometric_rounds=0)
    assert "masks_refined" not in run(context.request, context).facts
    assert not (context.output / "poses.json").exists() and not (context.output / "masks").exists()


def test_a_silhouette_somewhere_else_leaves_the_mask_alone() -> None:
    mask, other, none = np.zeros((40, 40), bool), np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    mask[5:20, 5:20], other[25:35, 25:35] = True, True
    assert np.array_equal(refined_mask(mask, other, none), mask)
    assert np.array_equal(refined_mask(mask, none, other), mask)
    near = np.roll(mask, 2, axis=0)
    assert refined_mask(mask, near, none).sum() == mask.sum() - 15  # two rows further off, one of them kept


def test_faces_are_held_where_nearly_all_masks_have_them(tmp_path: Path) -> None:
    write_pose(tmp_path, painted(), views=VIEWS)
    poses = PoseSet.model_validate_json((tmp_path / "poses.json").read_bytes())
    masks = [read(tmp_path / str(image.mask)) for image in poses.images]
    ball = painted()
    smaller, larger = (replace(ball, vertices=factor * ball.vertices) for factor in (0.97, 1.2))
    assert len(held_faces(smaller, poses.images, masks).faces) == len(ball.faces)
    assert len(held_faces(larger, poses.images, masks).faces) < 0.2 * len(ball.faces)
