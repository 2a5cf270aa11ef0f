"""The whole stage on a rendered capture: true structure from motion, judged against the truth."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.contract.shapes import umeyama
from infra.storage import FolderStore
from models.camera import (
    OPENGL_FROM_OPENCV,
    CameraSet,
    PosedImage,
    PoseSet,
    project,
    similarity_scale,
    transform_points,
)
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.quality import DEFAULT_GATES, Gate, Verdict
from models.results import ArtifactRef, StageRequest, StageResult
from models.scale import MeasuredScale
from models.stage import Stage
from models.verdict import judge_stage
from tasks import registry
from tasks.pose.task import run
from tasks.scale import task as scale_task
from tests.support import make_context, ref_of
from tests.tasks.pose import camera_writers
from tests.tasks.pose.captures import BOX, SIZE, commit_ingest, pose_context, ring, write_photos

VIEWS = 16


@dataclass(frozen=True)
class Captured:
    """Rendered photos, committed, and the cameras that took them."""

    root: Path
    ingest: ArtifactRef
    truth: tuple[PosedImage, ...]


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    folder, root = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("store")
    truth = ring(VIEWS)
    write_photos(folder, truth)
    return Captured(root, commit_ingest(root, folder, 1.05 * truth[0].camera.fx), truth)


def marked(captured: Captured, point: tuple[float, float, float]) -> dict[str, dict[str, tuple[float, float]]]:
    """Marks of a true point in four photos, in pixels of the original photos (twice the stored size)."""
    marks = {}
    for image in captured.truth[::4]:
        pixel = 2.0 * project(image.camera, image.c2w, np.array([point]))[0][0]
        marks[image.name] = (float(pixel[0]), float(pixel[1]))
    return {"pixels": marks}


@pytest.fixture(scope="module")
def solved(captured: Captured, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageResult]:
    context = pose_context(tmp_path_factory.mktemp("run"), captured.root, captured.ingest, "colmap")
    return context.output, run(context.request, context)


def read(output: Path) -> PoseSet:
    return PoseSet.model_validate_json((output / "poses.json").read_bytes())


def to_truth(poses: PoseSet, truth: tuple[PosedImage, ...]) -> np.ndarray:
    by_name = {image.name: image.centre for image in truth}
    ours = np.array([image.centre for image in poses.images])
    return umeyama(ours, np.array([by_name[image.name] for image in poses.images]))


def test_all_photos_register_at_their_true_places(captured: Captured, solved: tuple[Path, StageResult]) -> None:
    output, result = solved
    assert judge_stage(result, DEFAULT_GATES).verdict is Verdict.ACCEPT, result
    poses = read(output)
    assert [image.name for image in poses.images] == [image.name for image in captured.truth]
    aligned = transform_points(to_truth(poses, captured.truth), [image.centre for image in poses.images])
    error = np.linalg.norm(aligned - [image.centre for image in captured.truth], axis=1)
    assert error.max() < 0.02
    assert result.facts["registered_share"] == 1.0
    assert result.facts["reprojection_error_px"] < 1.0
    assert 20.0 < result.facts["parallax_deg"] < 180.0
    assert result.facts["tried"][0]["rung"] == "incremental"


def test_the_unit_is_half_the_regions_edge(captured: Captured, solved: tuple[Path, StageResult]) -> None:
    poses = read(solved[0])
    assert (poses.units, poses.scale_source, poses.scale_uncertainty) == ("arbitrary", "none", None)
    assert similarity_scale(poses.world_from_field) == pytest.approx(1.0)
    assert not {name for name in solved[1].facts if "metre" in name or "scale" in name}


def test_a_known_distance_makes_it_metric(captured: Captured, solved: tuple[Path, StageResult], tmp_path: Path) -> None:
    poses = read(solved[0])
    (captured.root / "pose").mkdir()
    for name in ("poses.json", "lenses.json"):
        shutil.copy(solved[0] / name, captured.root / "pose" / name)
    chosen = registry.effective_options(
        Stage.SCALE,
        "known_distance",
        "preview",
        {
            "distance_m": 1.0,
            "uncertainty_m": 0.001,
            "a": marked(captured, (-0.5, -0.4, 0.0)),
            "b": marked(captured, (0.5, -0.4, 0.0)),
        },
    )
    request = StageRequest(
        asset="box",
        stage=Stage.SCALE,
        method="known_distance",
        version="1",
        options=chosen.model_dump(mode="json"),
        inputs={"ingest": captured.ingest, "pose": ref_of(captured.root / "pose", "store:pose")},
    )
    context = make_context(request, tmp_path, FolderStore(captured.root))
    scale_task.run(request, context)
    found = MeasuredScale.model_validate_json((context.output / "scale.json").read_bytes())
    true = similarity_scale(to_truth(poses, captured.truth))
    assert found.factor == pytest.approx(true, rel=0.01) and found.source == "known_distance"
    assert found.uncertainty is not None and 0.001 <= found.uncertainty < 0.02


def test_the_region_holds_the_box_and_little_more(captured: Captured, solved: tuple[Path, StageResult]) -> None:
    poses = read(solved[0])
    field_from_truth = np.linalg.inv(poses.world_from_field) @ np.linalg.inv(to_truth(poses, captured.truth))
    corners = np.array([[x, y, z] for x in BOX[:, 0] for y in BOX[:, 1] for z in BOX[:, 2]])
    inside = transform_points(field_from_truth, corners)
    assert np.abs(inside).max() < 1.0
    assert (inside.max(0) - inside.min(0)).max() > 2.0 * 0.5


def test_up_and_the_support_are_the_tables(captured: Captured, solved: tuple[Path, StageResult]) -> None:
    poses = read(solved[0])
    turn = to_truth(poses, captured.truth)
    assert poses.support is not None
    normal = turn[:3, :3] @ poses.support.normal / np.cbrt(np.linalg.det(turn[:3, :3]))
    np.testing.assert_allclose(normal, [0, 0, 1], atol=0.02)
    np.testing.assert_allclose(poses.up, [0, 0, 1], atol=1e-9)
    foot = -np.array(poses.support.normal) * poses.support.offset
    assert abs(transform_points(turn, foot[None])[0, 2]) < 0.01


def test_the_files_fit_together(solved: tuple[Path, StageResult]) -> None:
    output, result = solved
    poses, points = read(output), np.load(output / "points.npz")
    count = len(points["xyz"])
    assert count == result.facts["points"] > 300
    assert points["rgb"].shape == (count, 3) and points["rgb"].dtype == np.uint8
    assert points["error"].dtype == np.float32 and points["views"].dtype == np.int32
    assert points["visible_ptr"].dtype == np.int64 and points["visible_idx"].dtype == np.int32
    assert points["visible_ptr"][-1] == len(points["visible_idx"]) == points["views"].sum()
    assert points["visible_idx"].max() < len(poses.images)
    for image in poses.images:
        with Image.open(output / str(image.image)) as picture:
            assert picture.size == (image.camera.width, image.camera.height)
    for index in range(0, count, 97):
        seen = points["visible_idx"][points["visible_ptr"][index] : points["visible_ptr"][index + 1]]
        for view in seen:
            uv, depth = project(poses.images[view].camera, poses.images[view].c2w, points["xyz"][index : index + 1])
            assert depth[0] > 0 and -8 < uv[0, 0] < SIZE[0] + 8
    assert len(poses.of_split("heldout")) == 2
    assert "seconds" not in json.loads((output / "pose.json").read_bytes())


def test_gates_bound_what_is_committed_and_change_none_of_it(captured: Captured, tmp_path: Path) -> None:
    gate = Gate(metric="track_length", at_least=50.0, otherwise=Verdict.REJECT, reason=ReasonCode.SHORT_TRACKS)
    cameras = tmp_path / "cameras.json"
    cameras.write_bytes(canonical_json(CameraSet(images=captured.truth)))
    context = pose_context(tmp_path, captured.root, captured.ingest, "known", cameras, format="cameras")
    result = run(context.request, context)
    assert judge_stage(result, DEFAULT_GATES).verdict is Verdict.ACCEPT
    found = judge_stage(result, (gate,))
    assert found.verdict is Verdict.REJECT and [each.code for each in found.reasons] == [ReasonCode.SHORT_TRACKS]
    assert (context.output / "poses.json").is_file() and "gates" not in context.request.options


def test_masks_of_something_else_are_named_as_the_cause(captured: Captured, tmp_path: Path) -> None:
    """A corner of the frame shows other things in each photo; whole, the photos show the same."""
    photos = captured.root / "work/box/ingest/key/attempts/one/images"
    corner = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    corner[10:70, 10:80] = 255
    ingest = commit_ingest(tmp_path / "store", photos, None, {path.name: corner for path in photos.iterdir()})
    context = pose_context(tmp_path / "run", tmp_path / "store", ingest, "colmap")
    found = judge_stage(run(context.request, context), DEFAULT_GATES)
    assert found.verdict is Verdict.REJECT
    assert found.reasons[0].code is ReasonCode.WRONG_MASKS
    message = found.reasons[0].message
    assert f"of {VIEWS} photos" in message and "4% of a photo" in message and "8 of 8 neighbouring photos" in message
    assert "masks: auto" in found.reasons[0].hint


def test_masks_are_not_blamed_for_photos_of_different_things(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for k in range(5):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{k}.jpg")
    whole = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    masks = {path.name: whole for path in (tmp_path / "photos").iterdir()}
    ingest = commit_ingest(tmp_path / "store", tmp_path / "photos", None, masks)
    context = pose_context(tmp_path / "run", tmp_path / "store", ingest, "colmap")
    found = judge_stage(run(context.request, context), DEFAULT_GATES)
    assert found.verdict is Verdict.REJECT
    assert ReasonCode.WRONG_MASKS not in {reason.code for reason in found.reasons}


def test_known_transforms_keep_their_world(captured: Captured, tmp_path: Path) -> None:
    frames = [
        {
            "file_path": f"./train/{Path(image.name).stem}",
            "transform_matrix": (np.array(image.c2w) @ OPENGL_FROM_OPENCV).tolist(),
        }
        for image in captured.truth
    ]
    angle = 2.0 * np.arctan(0.5 * SIZE[0] / captured.truth[0].camera.fx)
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    context = pose_context(tmp_path, captured.root, captured.ingest, "known", tmp_path / "transforms.json")
    result = run(context.request, context)
    assert judge_stage(result, DEFAULT_GATES).verdict is Verdict.ACCEPT, result
    poses = read(context.output)
    for found, true in zip(poses.images, captured.truth, strict=True):
        np.testing.assert_allclose(found.c2w, true.c2w, atol=1e-9)
        assert found.camera.fx == pytest.approx(true.camera.fx, rel=1e-6)
    xyz = np.load(context.output / "points.npz")["xyz"]
    on_table, on_top = np.abs(xyz[:, 2]) < 0.02, np.abs(xyz[:, 2] - BOX[1, 2]) < 0.02
    assert on_table.sum() > 50 and on_top.sum() > 10
    corners = np.array([[x, y, z] for x in BOX[:, 0] for y in BOX[:, 1] for z in BOX[:, 2]])
    assert np.abs(transform_points(np.linalg.inv(poses.world_from_field), corners)).max() < 1.0


@pytest.mark.parametrize("form", ["colmap", "metashape", "realitycapture", "opencv_axes"])
def test_poses_of_other_programs_come_through_the_stage(captured: Captured, tmp_path: Path, form: str) -> None:
    given = tmp_path / {"colmap": "sparse", "metashape": "c.xml", "realitycapture": "c.csv"}.get(form, "t.json")
    if form == "colmap":
        camera_writers.colmap(given / "0", captured.truth, binary=True)
    elif form == "opencv_axes":
        camera_writers.ngp(given, captured.truth)
        data = json.loads(given.read_text())
        for frame, image in zip(data["frames"], captured.truth, strict=True):
            frame["transform_matrix"] = image.c2w
        given.write_text(json.dumps(data))
    else:
        getattr(camera_writers, form)(given, captured.truth)
    context = pose_context(tmp_path, captured.root, captured.ingest, "known", given)
    result = run(context.request, context)
    assert judge_stage(result, DEFAULT_GATES).verdict is Verdict.ACCEPT, result
    for found, true in zip(read(context.output).images, captured.truth, strict=True):
        np.testing.assert_allclose(found.c2w, true.c2w, atol=1e-5)
    assert result.facts["epipolar_error_px"] < 1.0
    corrected = [note for note in result.facts["notes"] if "not as written" in note]
    assert len(corrected) == (form == "opencv_axes")


def test_a_photo_without_a_pose_is_left_out_and_named(captured: Captured, tmp_path: Path) -> None:
    cameras = tmp_path / "cameras.json"
    cameras.write_bytes(canonical_json(CameraSet(images=captured.truth[1:])))
    context = pose_context(tmp_path, captured.root, captured.ingest, "known", cameras, format="cameras")
    result = run(context.request, context)
    assert result.facts["unregistered"] == [captured.truth[0].name]
    assert {image.name for image in read(context.output).images} == {image.name for image in captured.truth[1:]}


def test_poses_that_are_named_as_no_photo_show_both_names(captured: Captured, tmp_path: Path) -> None:
    cameras = tmp_path / "cameras.json"
    renamed = [image.model_copy(update={"name": f"frame_{n}.jpg"}) for n, image in enumerate(captured.truth)]
    cameras.write_bytes(canonical_json(CameraSet(images=tuple(renamed))))
    context = pose_context(tmp_path, captured.root, captured.ingest, "known", cameras, format="cameras")
    with pytest.raises(DigitizeError, match=r"frame_0\.jpg") as caught:
        run(context.request, context)
    assert caught.value.code is ReasonCode.POSES_INVALID and captured.truth[0].name in caught.value.message
