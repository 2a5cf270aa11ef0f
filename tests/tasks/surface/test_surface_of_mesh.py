"""A mesh that the train stage made, through the surface stage: cropped, turned round, cleaned and textured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from models.camera import PoseSet
from models.errors import ReasonCode
from models.mesh.io import read_ply
from models.mesh.mesh import Mesh
from models.mesh.representation import MeshRepresentation
from models.mesh.topology import signed_volume
from models.quality import Verdict
from models.results import StageRequest, StageResult
from models.stage import Stage
from tasks.context import Context
from tasks.registry import effective_options
from tasks.sample import scenes
from tasks.surface.mesh_shape import cropped
from tasks.surface.task import run
from tests.support import make_context, ref_of

SMALL = {"faces": 3000, "texture_size": 256}


@pytest.fixture(scope="module")
def pose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pose")
    scenes.write_pose_outputs(folder, scenes.paint(scenes.sphere(1.0)), scenes.fibonacci_cameras(12, 160, 120, 4.0))
    return folder


@pytest.fixture(scope="module")
def masked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    images = scenes.fibonacci_cameras(12, 160, 120, 4.0)
    scenes.write_pose_outputs(folder, scenes.paint(scenes.sphere(1.0)), images, masks=True)
    return folder


def stage(folder: Path, pose_folder: Path, mesh: Mesh, **options: object) -> Context:
    store = folder / "store"
    (store / "pose").parent.mkdir(parents=True)
    (store / "pose").symlink_to(pose_folder)
    MeshRepresentation(mesh).save(store / "train" / "model")
    inputs = {name: ref_of(store / name, f"store:{name}") for name in ("pose", "train")}
    chosen = effective_options(Stage.SURFACE, "mesh", "preview", {**SMALL, **options})
    request = StageRequest(
        asset="ball", stage=Stage.SURFACE, method="mesh", version="1", options=chosen.model_dump(), inputs=inputs
    )
    return make_context(request, folder)


def ran(context: Context) -> StageResult:
    return run(context.request, context)


def test_a_ball_with_its_faces_the_wrong_way_and_a_table_far_off(pose_folder: Path, tmp_path: Path) -> None:
    ball = scenes.sphere(1.0)
    table = trimesh.creation.box(extents=(20.0, 20.0, 0.2))
    table.apply_translation((0.0, 0.0, -9.0))
    vertices = np.concatenate([ball.vertices, table.vertices])
    faces = np.concatenate([ball.faces[:, ::-1], np.array(table.faces) + len(ball.vertices)])
    context = stage(tmp_path, pose_folder, Mesh(vertices, faces))
    result = ran(context)
    assert result.verdict is Verdict.ACCEPT and result.facts["turned"]
    assert result.facts["cropped_faces"] == len(table.faces)
    full = read_ply(context.output / "mesh.ply")
    assert signed_volume(full) == pytest.approx(4 / 3 * np.pi, rel=0.02)
    assert full.colors is not None and full.colors.std() > 10  # the photos' colours: the mesh came without any
    assert result.facts["photo_share"] > 0.95
    published = trimesh.load(context.output / "asset.glb", force="mesh")
    assert np.ptp(published.vertices, axis=0) == pytest.approx([2.0, 2.0, 2.0], rel=0.02)


def test_an_open_shell_is_closed_or_stays_open_as_asked(masked_folder: Path, tmp_path: Path) -> None:
    ball = scenes.sphere(1.0)
    shell = replace(ball, faces=ball.faces[ball.triangles.mean(1)[:, 2] > -0.5])
    closed = ran(stage(tmp_path / "closed", masked_folder, shell))
    assert closed.facts["watertight"] and closed.facts["repair"]["closed_holes"] == 1
    opened = ran(stage(tmp_path / "open", masked_folder, shell, watertight=False))
    assert not opened.facts["watertight"] and opened.facts["holes"] == 1


def test_a_scene_without_masks_stays_open(pose_folder: Path, tmp_path: Path) -> None:
    ball = scenes.sphere(1.0)
    shell = replace(ball, faces=ball.faces[ball.triangles.mean(1)[:, 2] > -0.5])
    result = ran(stage(tmp_path, pose_folder, shell))
    assert not result.facts["watertight"] and result.facts["holes"] == 1


def test_nothing_in_the_region_is_a_rejection_with_its_reason(pose_folder: Path, tmp_path: Path) -> None:
    far = replace(scenes.sphere(1.0), vertices=scenes.sphere(1.0).vertices + 50.0)
    result = ran(stage(tmp_path, pose_folder, far))
    assert result.verdict is Verdict.REJECT and result.reasons[0].code is ReasonCode.EMPTY_SURFACE
    assert "inside the region of interest" in result.reasons[0].message and result.reasons[0].hint


def test_crops_whole_faces_alone(pose_folder: Path) -> None:
    poses = PoseSet.model_validate_json((pose_folder / "poses.json").read_bytes())
    half = np.linalg.norm(np.array(poses.world_from_field)[:3, 0])
    corners = np.array([[0, 0, 0], [half * 0.9, 0, 0], [0, half * 0.9, 0], [0, 0, half * 1.1]], dtype=np.float64)
    mesh = Mesh(corners, np.array([[0, 1, 2], [0, 1, 3]]))
    assert len(cropped(mesh, poses.world_from_field).faces) == 1
