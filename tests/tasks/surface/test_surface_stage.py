"""The whole stage through its door: a field and posed photographs in, a textured asset out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from pydantic import ValidationError

from models.camera import Plane, PoseSet, gltf_from_world, transform_points
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.fields.base import Field
from models.fields.representation import FieldRepresentation
from models.mesh.io import read_ply
from models.mesh.raycast import render_textured
from models.mesh.tier_files import read_tier
from models.quality import Verdict
from models.results import StageRequest, StageResult
from models.stage import Stage
from tasks.context import Context
from tasks.registry import effective_options, method
from tasks.sample import scenes
from tasks.surface.task import run
from tests.models.fields.analytic import SphereField
from tests.support import make_context, ref_of

RADIUS = 1.0
SMALL = {"resolution": 96, "faces": 2000, "texture_size": 256, "smooth_cells": 0.0}


@pytest.fixture(scope="module")
def pose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pose")
    scenes.write_pose_outputs(folder, scenes.paint(scenes.sphere(RADIUS)), scenes.fibonacci_cameras(12, 160, 120, 4.0))
    return folder


def stage(folder: Path, pose_folder: Path, field: Field, poses: PoseSet | None = None, **options: Any) -> Context:
    """A context whose store holds the pose outputs and a field."""
    store = folder / "store"
    (store / "train").mkdir(parents=True)
    (store / "pose").mkdir()
    FieldRepresentation(field).save(store / "train" / "model")
    (store / "pose" / "images").symlink_to(pose_folder / "images")
    (store / "pose" / "poses.json").write_bytes(
        canonical_json(poses) if poses is not None else (pose_folder / "poses.json").read_bytes()
    )
    (store / "train" / "train.json").write_text("{}")
    inputs = {name: ref_of(store / name, f"store:{name}") for name in ("pose", "train")}
    chosen = effective_options(Stage.SURFACE, "isosurface", "preview", {**SMALL, **options})
    request = StageRequest(
        asset="ball", stage=Stage.SURFACE, method="isosurface", version="1", options=chosen.model_dump(), inputs=inputs
    )
    return make_context(request, folder)


def ran(context: Context) -> StageResult:
    return run(context.request, context)


def test_ball_comes_out_round_textured_and_y_up(pose_folder: Path, tmp_path: Path) -> None:
    context = stage(tmp_path, pose_folder, SphereField(0.6, quantity="sdf"))
    heard: list[float] = []
    context.progress = lambda share, message, facts: heard.append(share)
    result = ran(context)
    out = context.output
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        "mesh.ply", "asset.glb", "surface.json", "tiers/thumb.npz",
        "tiers/thumb_color.png", "tiers/thumb_normal.png", "tiers/thumb_occlusion.png",
    }  # fmt: skip
    assert result.verdict == Verdict.ACCEPT
    assert result.facts["watertight"]
    assert result.facts["genus"] == 0
    assert result.facts["photo_share"] > 0.95
    assert json.loads((out / "surface.json").read_text())["faces"] == result.facts["faces"]
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    full = read_ply(out / "mesh.ply")
    assert full.colors is not None
    off = np.abs(np.linalg.norm(full.vertices, axis=1) - RADIUS)
    assert off.max() < 0.01, (off.max(), (off > 0.01).sum(), full.vertices[off > 0.01])
    asset = read_tier({path.name: path for path in (out / "tiers").iterdir()}, "thumb")
    poses = PoseSet.model_validate_json((pose_folder / "poses.json").read_text())
    image = poses.of_split("heldout")[0]
    view = render_textured(asset, image.camera, image.c2w, scenes.GREY, 2)
    photo = np.asarray(Image.open(pose_folder / str(image.image)), np.float32) / 255.0
    assert -10 * np.log10(np.mean((view.rgb - photo)[view.mask] ** 2)) > 28
    bounds = trimesh.load(out / "asset.glb").bounds
    assert bounds == pytest.approx(np.array([[-RADIUS] * 3, [RADIUS] * 3]), abs=0.02)


def with_support(pose_folder: Path, support: Plane | None) -> PoseSet:
    poses = PoseSet.model_validate_json((pose_folder / "poses.json").read_text())
    return poses.model_copy(update={"support": support})


def test_support_is_cut_off_and_closed(pose_folder: Path, tmp_path: Path) -> None:
    poses = with_support(pose_folder, Plane(normal=(0.0, 0.0, 1.0), offset=0.5))
    context = stage(tmp_path, pose_folder, SphereField(0.6, quantity="sdf"), poses, support="cut", support_margin=0.0)
    result = ran(context)
    mesh = read_ply(context.output / "mesh.ply")
    assert result.facts["support_cut"]
    assert result.facts["watertight"]
    assert mesh.vertices[:, 2].min() == pytest.approx(-0.5, abs=1e-6)


def test_a_missing_plane_is_reported_not_fatal(pose_folder: Path, tmp_path: Path) -> None:
    context = stage(tmp_path, pose_folder, SphereField(0.6, quantity="sdf"), support="cut")
    result = ran(context)
    assert result.verdict == Verdict.REVIEW
    assert result.reasons[0].code == ReasonCode.NO_REGION
    assert not result.facts["support_cut"]


def test_another_level_is_tried_and_admitted(
    pose_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.surface.field_shape.rank_levels", lambda *given, **more: [1.0, 0.5])
    context = stage(tmp_path, pose_folder, _Faint(0.6))
    result = ran(context)
    assert result.facts["level_factor"] == 0.5
    assert result.verdict == Verdict.REVIEW
    assert result.reasons[0].code == ReasonCode.EMPTY_SURFACE
    assert np.linalg.norm(read_ply(context.output / "mesh.ply").vertices, axis=1) == pytest.approx(RADIUS, abs=0.06)


class _Faint(SphereField):
    """A ball whose density stays below its own level everywhere."""

    method = "analytic_faint"

    def query(self, x: Any) -> Any:
        value, feature = super().query(x)
        return value * 0.4, feature


class _Turned(SphereField):
    """A ball whose sign is turned: the cube around it is solid."""

    method = "analytic_turned"

    def query(self, x: Any) -> Any:
        value, feature = super().query(x)
        return -value, feature


class _Holed(SphereField):
    """A ball with a few values that are not finite, far from its surface."""

    method = "analytic_holed"

    def query(self, x: Any) -> Any:
        value, feature = super().query(x)
        return torch.where(x.amin(1) > 0.8, torch.full_like(value, torch.inf), value), feature


@pytest.mark.parametrize(
    ("kind", "code"),
    [(_Turned, ReasonCode.INSIDE_OUT), (_Holed, ReasonCode.NOT_FINITE)],
    ids=["inside out", "not finite"],
)
def test_a_defect_has_a_fallback_and_a_reason(
    kind: type[SphereField], code: ReasonCode, pose_folder: Path, tmp_path: Path
) -> None:
    context = stage(tmp_path, pose_folder, kind(0.6, quantity="sdf"))
    result = ran(context)
    assert result.verdict == Verdict.REVIEW
    assert [reason.code for reason in result.reasons] == [code]
    assert np.linalg.norm(read_ply(context.output / "mesh.ply").vertices, axis=1) == pytest.approx(RADIUS, abs=0.01)


def test_what_no_photo_saw_can_be_removed(pose_folder: Path, tmp_path: Path) -> None:
    poses = PoseSet.model_validate_json((pose_folder / "poses.json").read_text())
    high = poses.model_copy(update={"images": tuple(image for image in poses.images if image.centre[2] > 0.5)})
    context = stage(tmp_path / "keep", pose_folder, SphereField(0.6, quantity="sdf"), high)
    result = ran(context)
    full = read_ply(context.output / "mesh.ply")
    assert full.seen is not None
    assert full.seen[full.vertices[:, 2] > 0.9].all()
    assert not full.seen[full.vertices[:, 2] < -0.9].any()
    assert result.facts["unseen_share"] == pytest.approx(1 - full.seen.mean())
    assert result.facts["holes"] == 0
    context = stage(tmp_path / "remove", pose_folder, SphereField(0.6, quantity="sdf"), high, unseen="remove")
    result = ran(context)
    assert result.facts["holes"] >= 1
    assert read_ply(context.output / "mesh.ply").vertices[:, 2].min() > -0.95


def test_nothing_at_any_level_is_a_rejection(pose_folder: Path, tmp_path: Path) -> None:
    result = ran(stage(tmp_path, pose_folder, SphereField(0.001, quantity="sdf")))
    assert result.verdict is Verdict.REJECT
    assert [reason.code for reason in result.reasons] == [ReasonCode.EMPTY_SURFACE] and result.reasons[0].hint


def test_every_tier_is_kept_and_the_main_one_is_the_asset(pose_folder: Path, tmp_path: Path) -> None:
    context = stage(tmp_path, pose_folder, SphereField(0.6, quantity="sdf"), tiers=("thumb", "ar", "full"))
    result = ran(context)
    tiers = result.facts["tiers"]
    assert set(tiers) == {"thumb", "ar", "full"} and result.facts["main_tier"] == "ar"
    assert tiers["full"]["faces"] == result.facts["full_faces"] > tiers["ar"]["faces"]
    kept = {path.name: path for path in (context.output / "tiers").iterdir()}
    for name in ("ar", "thumb"):
        mesh = read_tier(kept, name)
        assert len(mesh.faces) == tiers[name]["faces"] <= 2000
        assert tiers[name]["watertight"] and tiers[name]["self_intersections"] == 0
        assert all(each is not None for each in (mesh.uv, mesh.texture, mesh.normal_map, mesh.occlusion))
    asset = trimesh.load(context.output / "asset.glb", force="mesh", process=False)
    y_up = transform_points(gltf_from_world((0.0, 0.0, 1.0)), read_tier(kept, "ar").vertices)
    assert np.array_equal(np.asarray(asset.vertices, np.float32), y_up.astype(np.float32))


def test_formats_are_no_option_of_this_stage() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        effective_options(Stage.SURFACE, "isosurface", "preview", {"formats": ["glb"]})


def test_the_full_tier_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="beside `full`"):
        effective_options(Stage.SURFACE, "isosurface", "preview", {"tiers": ("full",)})


def test_cancelling_stops_the_stage(pose_folder: Path, tmp_path: Path) -> None:
    context = stage(tmp_path, pose_folder, SphereField(0.6, quantity="sdf"))
    context.cancelled = lambda: True
    with pytest.raises(DigitizeError) as caught:
        ran(context)
    assert caught.value.code == ReasonCode.CANCELLED


@pytest.mark.parametrize("preset", ["preview", "standard", "high"])
def test_presets_are_valid_and_priced(preset: str) -> None:
    module = method(Stage.SURFACE, "isosurface")
    options = effective_options(Stage.SURFACE, "isosurface", preset, {})
    cost = module.estimate(options, 60, 2.0)
    assert 0 < cost.seconds < module.resources(options).timeout_s
    assert cost.memory_gb <= module.resources(options).memory_gb
