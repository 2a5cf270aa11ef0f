"""What dense stereo hands to fields: on exact depth maps of a ball, and fields that train with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infra.storage import FolderStore
from models.artifacts import DENSE_FILE
from models.camera import Plane, PosedImage, PoseSet, pixel_rays
from models.fields import load_field
from models.fields.base import Field
from models.fields.occupancy import cell_centres
from models.mesh.raycast import RayCaster
from tasks.context import Context
from tasks.registry import effective_options
from tasks.sample.scenes import paint, sphere
from tasks.stereo.maps import DepthMap, depth_path, write_depth_map
from tasks.train import task
from tasks.train.dense_prior import DensePrior, read_dense_prior
from tests.support import ref_of
from tests.tasks.train.train_capture import TINY, train_context, write_capture

CELLS = 32
LEARNT: dict[str, dict[str, object]] = {
    "hash_sdf": {},
    "hash_density": {"steps": 200, "samples_per_step": 4096, "mask_use": "empty"},
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """The painted ball with exact depth maps and points, as the dense stage would leave them."""
    store = write_capture(tmp_path_factory.mktemp("ball"), 24, 64, masks=True)
    poses = PoseSet.model_validate_json((store.root / "pose" / "poses.json").read_text())
    ball = RayCaster(paint(sphere()), 1)
    for image in poses.of_split("train"):
        found = exact_map(ball, image)
        path = store.root / "dense" / depth_path(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_depth_map(path, found)
    out = np.random.default_rng(0).normal(size=(4000, 3))
    out = (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)
    np.savez(
        store.root / "dense" / DENSE_FILE,
        xyz=out,
        normal=out,
        rgb=np.zeros((4000, 3), np.uint8),
        views=np.full(4000, 3, np.uint8),
        confidence=np.ones(4000, np.float32),
    )
    return store


def exact_map(ball: RayCaster, image: PosedImage) -> DepthMap:
    shape = (image.camera.height, image.camera.width)
    rays_o, rays_d = pixel_rays(image.camera, image.c2w)
    hits = ball.cast(rays_o, rays_d)
    met, axes = hits.face >= 0, np.array(image.c2w)[:3, :3]
    depth = np.where(met, np.where(met, hits.t, 0) * (rays_d @ axes[:, 2]), 0)
    normal = np.where(met[:, None], hits.normal @ axes, 0)
    parts = (depth.reshape(shape), normal.reshape(*shape, 3), met.reshape(shape))
    return DepthMap(*(part.astype(np.float32) for part in parts))


def context_of(store: FolderStore, folder: Path, method: str = "hash_sdf", **options: object) -> Context:
    context = train_context(store, folder)
    small = {**TINY, "ncc": 0.0, "levels_from": 3} if method == "hash_sdf" else TINY
    effective = effective_options("train", method, "preview", {**small, **options})
    inputs = {name: ref_of(store.root / name, f"store:{name}") for name in ("pose", "dense")}
    changes = {"method": method, "options": effective.model_dump(mode="json"), "inputs": inputs}
    context.request = context.request.model_copy(update=changes)
    return context


def radius_of(store: FolderStore) -> float:
    """Of the ball in field units."""
    poses = PoseSet.model_validate_json((store.root / "pose" / "poses.json").read_text())
    return float(np.linalg.norm(np.array(poses.world_from_field)[:3, 0])) ** -1


def prior_of(store: FolderStore, folder: Path, support: Plane | None = None) -> DensePrior:
    poses = PoseSet.model_validate_json((store.root / "pose" / "poses.json").read_text())
    if support is not None:
        poses = poses.model_copy(update={"support": support})
    found = read_dense_prior(poses, CELLS, True, support is not None, context_of(store, folder))
    assert found is not None
    return found


def test_points_shape_and_free_cells_are_the_balls(capture: FolderStore, tmp_path: Path) -> None:
    prior, radius = prior_of(capture, tmp_path), radius_of(capture)
    assert float((prior.points.x.norm(dim=1) - radius).abs().max()) < 1e-3
    assert float((prior.points.normal * prior.points.x).sum(1).min()) > 0.99 * radius
    side = prior.shape.shape[0]
    true = cell_centres(side).norm(dim=1).view(side, side, side) - radius
    near = true.abs() < 0.1
    assert float((prior.shape - true)[near].abs().max()) < 0.03
    assert float(((prior.shape < 0) == (true < 0))[true.abs() > 0.05].float().mean()) > 0.999
    away = cell_centres(CELLS).norm(dim=1).view(CELLS, CELLS, CELLS) - radius
    cell = 2.0 / CELLS
    assert not prior.free[away < cell].any()  # neither the ball nor what touches it
    assert float(prior.free[(away > 5 * cell) & (away < 8 * cell)].float().mean()) > 0.9


def test_drawn_places_lie_outside_the_ball(capture: FolderStore, tmp_path: Path) -> None:
    prior, radius = prior_of(capture, tmp_path), radius_of(capture)
    drawn, away = prior.draw_outside(500, torch.Generator().manual_seed(0))
    assert float(drawn.norm(dim=1).min()) > radius - prior.cell
    true = (drawn.norm(dim=1) - radius).clamp(max=prior.cell)
    assert float((away - true).abs().max()) < 0.03
    cell = ((drawn + 1.0) * (CELLS / 2)).long().clamp(0, CELLS - 1)
    free = prior.free[cell[:, 2], cell[:, 1], cell[:, 0]]
    assert not free[:250].any()  # half where a surface may be
    assert free[250:].float().mean() > 0.8  # half where no photo would miss one


def test_photos_that_are_learned_whole_show_the_support_too(capture: FolderStore, tmp_path: Path) -> None:
    support = Plane(normal=(0.0, 0.0, 1.0), offset=1.2)
    prior, alone, radius = prior_of(capture, tmp_path, support), prior_of(capture, tmp_path), radius_of(capture)
    height = cell_centres(CELLS)[:, 2].view(CELLS, CELLS, CELLS) + 1.2 * radius
    assert not prior.free[height < 0].any() and alone.free[height < 0].any()
    side = prior.shape.shape[0]
    assert (prior.shape[: side // 10] < 0).all() and (alone.shape[: side // 10] > 0).all()
    assert torch.equal(prior.shape[side // 2 :], alone.shape[side // 2 :])


def shape_error(field: Field, radius: float) -> float:
    """Mean distance of the surface along random directions to the ball's, in field units."""
    out = torch.nn.functional.normalize(torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    t = torch.linspace(0.98, 0.1, 400)
    with torch.no_grad():
        value = field.query((out[:, None] * t[:, None]).view(-1, 3))[0].view(1000, 400)
    inside = value > field.level if field.quantity == "density" else value < field.level
    found = torch.where(inside.any(1), t[inside.float().argmax(1)], torch.zeros(()))
    return float((found - radius).abs().mean())


@pytest.mark.parametrize("method", ["hash_sdf", pytest.param("hash_density", marks=pytest.mark.slow)])
def test_fields_are_held_to_what_stereo_found(capture: FolderStore, tmp_path: Path, method: str) -> None:
    radius, errors = radius_of(capture), {}
    for prior in (True, False):
        context = context_of(capture, tmp_path / str(prior), method, dense_prior=prior, **LEARNT[method])
        task.run(context.request, context)
        errors[prior] = shape_error(load_field(context.output / "model"), radius)
    assert errors[True] < 0.05 and errors[True] < 0.5 * errors[False], errors


@pytest.mark.slow
def test_training_with_a_prior_is_the_same_each_time(capture: FolderStore, tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        context = context_of(capture, tmp_path / name, dense_prior=True, steps=20)
        task.run(context.request, context)
        weights.append((context.output / "model" / "field.safetensors").read_bytes())
    assert weights[0] == weights[1]
