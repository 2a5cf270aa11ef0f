"""The dense stage and the method `mvs` on a rendered scene: files, resume, rejection, and a mesh near the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.storage import FolderStore
from models.camera import PoseSet, pixel_rays
from models.errors import DigitizeError, ReasonCode
from models.ladder import Ladder
from models.mesh.io import read_ply
from models.mesh.raycast import RayCaster
from models.quality import Verdict
from models.results import StageRequest
from models.stage import Inputs, Stage
from tasks.context import Context
from tasks.dense import pipeline
from tasks.dense.methods import patchmatch
from tasks.dense.task import run
from tasks.registry import effective_options, inputs
from tasks.sample import scenes
from tasks.stereo import kernel
from tasks.stereo.maps import depth_path, read_depth_map, read_filled_depth
from tasks.train import task as train_task
from tasks.train.methods import hash_density, mvs
from tests.support import make_context, ref_of
from tests.tasks.dense.dense_capture import distances, painted, stage, write_pose

QUICK = {"iterations": 2, "geometric_rounds": 1}
needs_kernel = pytest.mark.skipif(kernel.library() is None, reason="the stereo kernel is not built here")


@pytest.fixture(scope="module")
def pose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pose")
    write_pose(folder, painted(), views=20)
    return folder


@pytest.fixture(scope="module")
def dense(pose_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = stage(tmp_path_factory.mktemp("dense"), pose_folder, **QUICK)
    assert run(context.request, context).verdict is Verdict.ACCEPT
    return context


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_kernel
def test_the_points_lie_on_the_body_and_the_files_are_there(dense: Context, pose_folder: Path) -> None:
    poses = PoseSet.model_validate_json((pose_folder / "poses.json").read_bytes())
    names = {f"depth/{Path(str(image.image)).stem}.npz" for image in poses.of_split("train")}
    assert set(files(dense.output)) == names | {"dense.npz", "dense.json"}
    with np.load(dense.output / "dense.npz") as data:
        points = dict(data)
    assert RayCaster(painted(), 2).distance(points["xyz"]).max() < 0.015 * painted().diagonal
    assert (points["normal"] * points["xyz"]).sum(1).min() > 0.5
    assert points["rgb"].dtype == np.uint8 and points["views"].min() >= 3
    facts = json.loads((dense.output / "dense.json").read_text())
    assert facts["points"] == len(points["xyz"]) and facts["covered"] > 0.2
    assert len(facts["maps"]) == len(names) and all(row["sources"] for row in facts["maps"])


@needs_kernel
def test_a_node_with_a_gpu_searches_there(
    dense: Context, pose_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.stereo import torch_sweep

    devices = []

    def compiled(*arguments: Any, **options: Any) -> Any:
        *rest, device = arguments
        devices.append(device)
        return kernel.patchmatch(*rest, **options)

    monkeypatch.setattr(torch_sweep, "patchmatch", compiled)
    context = replace(stage(tmp_path, pose_folder, **QUICK), device="cuda")
    run(context.request, context)
    assert set(devices) == {"cuda"}
    assert files(context.output) == files(dense.output)


@needs_kernel
def test_gaps_of_maps_are_filled_by_what_the_others_measured(dense: Context, pose_folder: Path) -> None:
    poses, ball = PoseSet.model_validate_json((pose_folder / "poses.json").read_bytes()), RayCaster(painted(), 2)
    own, full, right = [], [], []
    for image in poses.of_split("train"):
        path = dense.output / depth_path(image)
        depth, filled = read_depth_map(path).depth, read_filled_depth(path)
        assert np.array_equal(filled[depth > 0], depth[depth > 0])  # what a photo measured stays
        camera = image.camera.resized(depth.shape[1], depth.shape[0])
        rays_o, rays_d = pixel_rays(camera, image.c2w)
        hits = ball.cast(rays_o, rays_d)
        shown = (hits.face >= 0).reshape(depth.shape)
        true = np.where(hits.face >= 0, hits.t, 0.0) * (rays_d @ np.array(image.c2w)[:3, 2])
        off = np.abs(filled - true.reshape(depth.shape)) < 0.01 * painted().diagonal
        own.append((depth > 0)[shown].mean())
        full.append((filled > 0)[shown].mean())
        right.append(off[shown & (filled > 0) & (depth == 0)].mean())
    assert np.mean(full) > 0.97 > np.mean(own) + 0.02
    assert np.mean(right) > 0.85  # the outline is a guess


@pytest.mark.slow
@needs_kernel
def test_a_resumed_attempt_gives_the_same_bytes(
    dense: Context, pose_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage(tmp_path / "first", pose_folder, **QUICK)
    made: list[str] = []

    def fail_later(share: float, message: str, facts: dict[str, object]) -> None:
        made.append(message)
        if len(made) == 25:  # in the geometric round
            raise KeyboardInterrupt

    first.progress = fail_later
    with pytest.raises(KeyboardInterrupt):
        run(first.request, first)
    again = make_context(first.request, tmp_path / "again", first.store, threads=1)
    computed: list[tuple[int, int]] = []
    original = pipeline._depth_map

    def counted(round_: int, k: int, *rest: object) -> object:
        computed.append((round_, k))
        return original(round_, k, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "_depth_map", counted)
    run(again.request, again)
    assert files(again.output) == files(dense.output)
    photos = len(list((again.output / "depth").iterdir()))
    assert len(computed) == 2 * photos - 25 and all(round_ == 1 for round_, _ in computed)


@needs_kernel
def test_a_plain_body_is_rejected_rather_than_guessed(tmp_path: Path) -> None:
    scenes.write_pose_outputs(
        tmp_path / "pose", scenes.sphere(1.0), scenes.fibonacci_cameras(8, 96, 72, 4.0), masks=True
    )
    context = stage(tmp_path, tmp_path / "pose", **QUICK)
    result = run(context.request, context)
    assert result.verdict is Verdict.REJECT and result.reasons[0].code is ReasonCode.EMPTY_SURFACE
    assert "3 photos agree" in result.reasons[0].message


def test_without_a_kernel_the_stage_says_so(pose_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "library", lambda build=None: None)
    context = stage(tmp_path, pose_folder, **QUICK)
    with pytest.raises(DigitizeError) as caught:
        run(context.request, context)
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY


def mesh_request(store: Path, **options: object) -> StageRequest:
    return StageRequest(
        asset="ball",
        stage=Stage.TRAIN,
        method="mvs",
        version=mvs.VERSION,
        options=effective_options(Stage.TRAIN, "mvs", "preview", options).model_dump(),
        inputs={name: ref_of(store / name, f"store:{name}") for name in ("pose", "dense")},
    )


@needs_kernel
@pytest.mark.parametrize(("surface", "resolution"), [("tsdf", 80), ("poisson", 64)])
def test_mvs_makes_a_mesh_near_the_truth(
    dense: Context, pose_folder: Path, tmp_path: Path, surface: str, resolution: int
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "pose").symlink_to(pose_folder)
    (tmp_path / "store" / "dense").symlink_to(dense.output)
    request = mesh_request(tmp_path / "store", surface=surface, resolution=resolution)
    context = make_context(request, tmp_path, FolderStore(tmp_path / "store"), threads=2)
    result = train_task.run(request, context)
    assert result.facts["kind"] == "mesh" and result.facts["surface"] == surface
    mesh = read_ply(context.output / "model" / "mesh.ply")
    there, back = distances(mesh, painted())
    assert there < 0.01 and back < 0.01
    assert mesh.colors is not None and mesh.colors.std() > 10


def test_what_the_methods_declare() -> None:
    assert inputs(Stage.TRAIN, mvs, mvs.Options(), "rings") == Inputs(required=("pose", "dense"))
    for prior, read in (
        ("auto", Inputs(required=("pose",), optional=("dense",))),
        (True, Inputs(required=("pose", "dense"))),
        (False, Inputs(required=("pose",))),
    ):
        options = hash_density.Options.model_validate({"dense_prior": prior})
        assert inputs(Stage.TRAIN, hash_density, options, "rings") == read
    ladder: Ladder = patchmatch.LADDER
    assert ladder.step_down({"edge_px": 960}, ReasonCode.OUT_OF_MEMORY) == {"edge_px": 672}
    assert ladder.step_down({"edge_px": 320, "iterations": 4}, ReasonCode.DEADLINE) == {"iterations": 3}
    quick, slow = (patchmatch.estimate(patchmatch.Options(edge_px=edge), 40, 12.0) for edge in (640, 1600))
    assert slow.seconds > 5 * quick.seconds and slow.memory_gb > quick.memory_gb
