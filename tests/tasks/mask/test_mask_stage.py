"""The mask stage on captures with known silhouettes: believed, mended, dropped, refused, and without the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.camera import PosedImage, PoseSet, project, transform_points
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.results import StageResult
from models.spec import AssetSpec, BatchSpec
from models.stage import Given
from models.weights import package_ref
from tasks.context import Context
from tasks.mask import task
from tasks.saliency.u2net import EXTERNAL, is_installed
from tasks.sample.scenes import box, paint, ring_cameras, write_pose_outputs
from tests.support import ref_of
from tests.tasks.mask.captures import SIZE, MaskCapture, floor

GREEN, MAGENTA = (0, 255, 0), (255, 0, 255)
needs_weights = pytest.mark.skipif(not is_installed(), reason="the weights are not installed: make install")


def green(index: int) -> npt.NDArray[np.uint8]:
    """A backdrop that the stand-in for the network knows."""
    return np.full((SIZE[1], SIZE[0], 3), GREEN, np.uint8)


class GreenScreen:
    """A stand-in for the network: all but green is the object, unless there is magenta, which takes its eye."""

    def __init__(self, path: Path, *settings: Any) -> None:
        pass

    def __call__(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        near = [np.abs(picture.astype(int) - colour).max(2) < 60 for colour in (GREEN, MAGENTA)]
        return np.asarray(near[1] if near[1].mean() > 0.001 else ~near[0], dtype=np.float32)


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MaskCapture:
    """A vase before a green screen, and a network that knows green screens."""
    monkeypatch.setattr("tasks.saliency.network.OnnxNetwork", GreenScreen)
    monkeypatch.setattr("tasks.external.fetch_external", lambda context, name: Path("none"))
    monkeypatch.setattr("tasks.mask.gate._CELLS", 64)
    return MaskCapture(tmp_path, green)


def run(context: Context) -> StageResult:
    return task.run(context.request, context)


def facts_of(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((context.output / "mask.json").read_bytes())
    return found


def poses_of(context: Context) -> PoseSet:
    return PoseSet.model_validate_json((context.output / "poses.json").read_bytes())


@needs_weights
def test_masks_of_an_easy_scene_are_nearly_the_true_silhouettes(tmp_path: Path) -> None:
    capture = MaskCapture(tmp_path, floor(), views=8)
    context = capture.context()
    result = run(context)
    assert result.facts["scene_mode"] is False and result.facts["reasons"] == []
    assert min(capture.overlaps(context)) > 0.95
    assert result.facts["unanimous_share"] > 0.98 and result.facts["hull_iou_median"] > 0.95
    assert all(image.mask == f"masks/{Path(image.name).stem}.png" for image in poses_of(context).images)


@needs_weights
def test_a_room_without_an_object_is_a_scene_and_says_why(tmp_path: Path) -> None:
    capture = MaskCapture.__new__(MaskCapture)
    capture.root, capture.folder = tmp_path, tmp_path / "store" / "work" / "pose"
    room = paint(box((9.0, 9.0, 5.0), 5), scale=12.0)
    inwards = Mesh(room.vertices, room.faces[:, ::-1].copy(), colors=room.colors)
    capture.poses = write_pose_outputs(capture.folder, inwards, ring_cameras(6, *SIZE, 2.0, (5.0, 25.0)), points=1500)
    context = capture.context()
    result = run(context)
    assert result.facts["scene_mode"] is True and result.verdict == "accept"
    assert len(result.facts["reasons"]) >= 1 and all("expected" in each for each in result.facts["reasons"])
    assert [path.name for path in context.output.iterdir()] == ["mask.json"]


def test_the_region_is_fitted_to_the_masks(capture: MaskCapture) -> None:
    context = capture.context()
    run(context)
    poses = poses_of(context)
    local = transform_points(np.linalg.inv(np.array(poses.world_from_field)), capture.mesh.vertices)
    assert np.abs(local).max() < 1.0
    before, after = (float(np.linalg.norm(np.array(each.world_from_field)[:3, 0])) for each in (capture.poses, poses))
    assert after < 0.85 * before
    assert poses.mask_tolerance_px == 2.0 and facts_of(context)["mask_tolerance_px"] == 2.0
    assert min(capture.overlaps(context)) > 0.97


def test_a_region_chosen_by_hand_stays(capture: MaskCapture) -> None:
    (capture.folder / "pose.json").write_bytes(canonical_json({"region_source": "given"}))
    context = capture.context()
    assert run(context).facts["region_source"] == "given"
    assert poses_of(context).world_from_field == capture.poses.world_from_field


def test_a_wrong_mask_is_mended_by_the_hull_of_the_others(capture: MaskCapture) -> None:
    behind = green(3)
    behind[10:40, 5:45] = MAGENTA
    capture.paste(3, behind)
    context = capture.context()
    result = run(context)
    assert result.facts["mended"] == ["view_003.jpg"] and result.facts["dropped"] == []
    assert capture.overlaps(context)[3] > 0.9
    assert [row["state"] for row in facts_of(context)["photos"]].count("mended") == 1


def test_a_thing_beside_the_object_in_one_photo_is_cut_off(capture: MaskCapture) -> None:
    poses, points = capture.poses, dict(np.load(capture.folder / "points.npz"))
    image = poses.images[2]
    ahead = np.array([[-0.27, -0.1, 1.0]]) * 5.0  # of the camera: left of the body
    thing = transform_points(image.c2w, ahead)
    (u, v), _ = (each[0] for each in project(image.camera, image.c2w, thing))
    behind = green(2)
    behind[int(v) - 16 : int(v) + 16, int(u) - 16 : int(u) + 16] = (200, 30, 30)
    capture.paste(2, behind)
    seers = [k for k, each in enumerate(poses.images) if _frames(each, thing)]
    points["xyz"] = np.concatenate([points["xyz"], np.repeat(thing, 3, 0)])
    points["visible_ptr"] = np.r_[points["visible_ptr"], points["visible_ptr"][-1] + len(seers) * np.arange(1, 4)]
    points["visible_idx"] = np.r_[points["visible_idx"], np.tile(seers, 3)].astype(np.int32)
    np.savez(capture.folder / "points.npz", **points)
    context = capture.context()
    result = run(context)
    assert result.facts["trimmed"] == ["view_002.jpg"] and result.facts["scene_mode"] is False
    assert min(capture.overlaps(context)) > 0.97


def _frames(image: PosedImage, point: npt.NDArray[np.float64]) -> bool:
    uv, depth = project(image.camera, image.c2w, point)
    return bool(depth[0] > 0 and (uv[0] > 0).all() and (uv[0] < [image.camera.width, image.camera.height]).all())


def test_a_photo_that_stays_wrong_gets_no_mask(capture: MaskCapture) -> None:
    from PIL import Image

    Image.fromarray(green(5)).save(capture.picture_path(5), quality=97)
    context = capture.context()
    result = run(context)
    assert result.facts["dropped"] == ["view_005.jpg"] and result.facts["scene_mode"] is False
    masks = [image.mask for image in poses_of(context).images]
    assert masks[5] is None and masks.count(None) == 1
    assert not (context.output / "masks" / "view_005.png").exists()
    assert min(each for k, each in enumerate(capture.overlaps(context)) if k != 5) > 0.97


def test_too_few_points_on_the_object_are_named(capture: MaskCapture) -> None:
    context = capture.context(min_points=10**6)
    result = run(context)
    assert result.facts["scene_mode"] is True
    assert result.facts["reasons"][0].startswith("points_inside: expected at least 1e+06, found")
    assert [path.name for path in context.output.iterdir()] == ["mask.json"]


def test_masks_that_the_photos_brought_along_are_kept(capture: MaskCapture) -> None:
    images = (capture.poses.images[0].model_copy(update={"mask": "masks/view_000.png"}), *capture.poses.images[1:])
    changed = capture.poses.model_copy(update={"images": images})
    (capture.folder / "poses.json").write_bytes(canonical_json(changed))
    context = capture.context()
    assert run(context).facts["given"] is True
    assert [path.name for path in context.output.iterdir()] == ["mask.json"]


def test_without_weights_the_points_above_the_support_give_outlines(
    capture: MaskCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "is_installed", lambda: False)
    assert task.default_method(Given("rings")) == "geometry"
    asset = AssetSpec.model_validate({"id": "vase", "photos": "p", "scale": {"kind": "none"}})
    implied = task.implied_options(asset, BatchSpec(name="b", assets=(asset,)), str)
    assert implied == {"weights_missing": True}
    context = capture.context(method="geometry", **implied)
    result = run(context)
    assert result.facts["method"] == "geometry" and result.facts["weights_missing"] is True
    assert result.facts["scene_mode"] is False and min(capture.overlaps(context)) > 0.8
    for image, truth in zip(capture.poses.images, capture.truth, strict=True):
        mask = _read(context.output / "masks" / f"{Path(image.name).stem}.png")
        assert mask[truth].mean() > 0.98  # nearly nothing is cut off


def test_geometry_without_a_support_is_a_scene(capture: MaskCapture) -> None:
    changed = capture.poses.model_copy(update={"support": None})
    (capture.folder / "poses.json").write_bytes(canonical_json(changed))
    result = run(capture.context(method="geometry"))
    assert result.facts["scene_mode"] is True and result.facts["reasons"][0].startswith("support: expected a plane")


def test_the_method_follows_the_word_and_the_weights() -> None:
    assert task.default_method(Given("rings", masks="geometry")) == "geometry"
    assert task.default_method(Given("rings")) == ("saliency" if is_installed() else "geometry")


def test_a_worker_without_the_weights_says_so(tmp_path: Path) -> None:
    capture = MaskCapture(tmp_path, views=3)
    inputs = {"pose": ref_of(capture.folder, "store:work/pose"), EXTERNAL: package_ref("package:no-such/x", "0" * 64)}
    context = capture.context()
    context.request = context.request.model_copy(update={"inputs": inputs})
    with pytest.raises(DigitizeError) as caught:
        run(context)
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY and "no-such" in caught.value.message


def _read(path: Path) -> npt.NDArray[np.bool_]:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image) > 0
