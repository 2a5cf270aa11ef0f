"""`digitize masks`: masks go back to the photos as they were taken, and come in again as they were."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image

from flows.plan.batch_plan import plan_batch
from flows.status.files import committed, with_stage, write_status
from infra.storage import open_store
from models.artifacts import LENSES_FILE, MASK_FACTS_FILE, POSES_FILE
from models.camera import LensSet, PoseSet
from models.digest import canonical_json
from models.results import Done, StageRequest, StageResult
from models.spec_yaml import load_spec
from models.stage import Stage
from models.status import AssetStatus
from tasks import registry
from tasks.commit import run_stage
from tasks.context import Context
from tasks.pose.undistort import Pinhole, undistorted_mask
from tasks.sample.phone_capture import write_phone_sample
from tasks.stage_files import fetch_picture, read_poses
from tests.flows.test_cli import ask, tell
from tests.support import make_context

import pycolmap  # isort: skip

LEFT_OUT = "IMG_0003.jpg"
STAGES = {"ingest": {"options": {"max_edge_px": 480}}, "pose": {"options": {"max_features": 2500}}}
Door = Callable[[StageRequest, Context], StageResult]
Mask = npt.NDArray[np.bool_]


def read_mask(path: Path) -> Mask:
    with Image.open(path) as picture:
        assert picture.mode == "L" and {value for _, value in picture.getcolors() or ()} <= {0, 255}
        return np.asarray(picture) >= 128


def overlap(one: Mask, other: Mask) -> float:
    assert one.shape == other.shape
    return float((one & other).sum() / (one | other).sum())


def found_masks(folder: Path) -> Door:
    """A mask stage that finds the true silhouettes, as the lens of the pose stage straightens them."""

    def door(request: StageRequest, context: Context) -> StageResult:
        poses = read_poses(context)
        lenses = LensSet.model_validate_json(context.fetch("pose", LENSES_FILE).read_bytes()).lenses
        lens_of = {lens.name: lens for lens in lenses}
        images = []
        (context.output / "masks").mkdir()
        for image in poses.images:
            lens = lens_of[image.name]
            camera = pycolmap.Camera.create_from_model_name(1, lens.model, 1.0, lens.width, lens.height)
            camera.params = list(lens.params)
            with Image.open(folder / "truth" / "masks" / f"{Path(image.name).stem}.png") as truth:
                truth.resize((lens.width, lens.height), Image.Resampling.BOX).save(context.scratch / "t.png")
            mask = undistorted_mask(Pinhole(image.camera, camera), context.scratch / "t.png")
            path = f"masks/{Path(str(image.image)).stem}.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(context.output / path)
            images.append(image.model_copy(update={"mask": None if image.name == LEFT_OUT else path}))
        (context.output / POSES_FILE).write_bytes(canonical_json(poses.model_copy(update={"images": tuple(images)})))
        (context.output / MASK_FACTS_FILE).write_bytes(canonical_json({"scene_mode": False}))
        return StageResult()

    return door


def says(**facts: Any) -> Door:
    """A mask stage that only has something to say."""

    def door(request: StageRequest, context: Context) -> StageResult:
        (context.output / MASK_FACTS_FILE).write_bytes(canonical_json(facts))
        return StageResult()

    return door


def commit(spec: Path, doors: dict[Stage, Door | None]) -> dict[Stage, Done]:
    """Run stages of the only asset, with doors of their own or the real ones, and write its status."""
    (plan,) = plan_batch(load_spec(spec)).assets
    store, dones = open_store(str(spec.parent / "store")), dict[Stage, Done]()
    status = AssetStatus(batch=plan.batch, asset=plan.id)
    for stage, door in doors.items():
        request = plan.request(stage, dones)
        folder = spec.parent / ".attempt"
        real: Door = registry.stage_module(stage).run
        dones[stage] = run_stage(door or real, request, make_context(request, folder, store, threads=2))
        shutil.rmtree(folder)
        assert dones[stage].result.verdict != "reject", dones[stage].result.reasons
        status = with_stage(status, stage, **committed(dones[stage], cached=False))
    write_status(store, status)
    return dones


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phone's photos, taken in at two thirds of their size, with cameras solved and masks found."""
    folder = tmp_path_factory.mktemp("phone")
    write_phone_sample(folder, views=14, width=720, height=540, seed=1, cell_m=0.004)
    spec = folder / "batch.yaml"
    batch = yaml.safe_load(spec.read_text())
    batch["stages"] = STAGES
    batch["assets"][0]["scale"] = {"kind": "none"}
    batch["assets"][0].pop("truth", None)
    spec.write_text(yaml.safe_dump(batch))
    commit(spec, {Stage.INGEST: None, Stage.POSE: None, Stage.MASK: found_masks(folder)})
    return spec


def copy_of(capture: Path, folder: Path, **changes: Any) -> Path:
    """The same capture with a store of its own, its asset changed."""
    batch = yaml.safe_load(capture.read_text())
    batch["assets"][0] |= {"photos": str(capture.parent / "photos"), **changes}
    spec = folder / "batch.yaml"
    spec.write_text(yaml.safe_dump(batch))
    return spec


def asset_of(spec: Path) -> str:
    return load_spec(spec).spec.assets[0].id


def working_masks(spec: Path, done: Done) -> dict[str, Mask]:
    """The masks that a stage handed on, by photo."""
    folder = spec.parent / "store" / done.ref.uri.removeprefix("store:")
    poses = PoseSet.model_validate_json((folder / POSES_FILE).read_bytes())
    return {image.name: read_mask(folder / image.mask) for image in poses.images if image.mask}


def test_masks_lie_on_the_photos_as_taken_and_come_back_as_they_were(capture: Path, tmp_path: Path) -> None:
    document = ask("masks", capture, asset_of(capture), tmp_path / "masks")
    written = document["masks"]
    assert len(written) >= 10 and document["without"] == {LEFT_OUT: "its mask disagreed with the other photos'"}
    found = list[float]()
    for name, file in written.items():
        assert file == f"{Path(name).stem}.png"
        mask = read_mask(tmp_path / "masks" / file)
        with Image.open(capture.parent / "photos" / name) as photo:
            assert mask.shape == (photo.height, photo.width)
        truth = read_mask(capture.parent / "truth" / "masks" / file)
        found.append(overlap(mask, truth))
    assert min(found) > 0.97, found  # pixels of the stored photos are 1.5 of theirs
    given = yaml.safe_load(document["specification"])["masks"]
    assert given == {"path": str(tmp_path / "masks"), "role": "outline"}
    dones = commit(capture, {Stage.INGEST: None, Stage.POSE: None, Stage.MASK: found_masks(capture.parent)})
    before = working_masks(capture, dones[Stage.MASK])
    again = copy_of(capture, tmp_path, masks=given)
    given_back = commit(again, {Stage.INGEST: None, Stage.POSE: None})
    after = working_masks(again, given_back[Stage.POSE])
    assert set(after) == set(written) == set(before)
    overlaps = [overlap(before[name], after[name]) for name in after]
    assert min(overlaps) > 0.998, overlaps


def test_masks_are_written_as_dense_stereo_refined_them(capture: Path, tmp_path: Path) -> None:
    def halved(request: StageRequest, context: Context) -> StageResult:
        """A dense stage that leaves the upper half of every mask."""
        poses = read_poses(context)
        (context.output / "masks").mkdir()
        for image in poses.images:
            if image.mask:
                mask = read_mask(fetch_picture(context, image.mask))
                mask[np.nonzero(mask.any(1))[0].mean().astype(int) :] = False
                Image.fromarray(mask.astype(np.uint8) * 255).save(context.output / image.mask)
        (context.output / POSES_FILE).write_bytes(canonical_json(poses))
        return StageResult()

    spec = copy_of(capture, tmp_path)
    spec.write_text(yaml.safe_dump({**yaml.safe_load(spec.read_text()), "stages": {**STAGES, "train": "mvs"}}))
    shutil.copytree(capture.parent / "store", tmp_path / "store")
    doors = {Stage.INGEST: None, Stage.POSE: None, Stage.MASK: found_masks(capture.parent), Stage.DENSE: halved}
    commit(spec, doors)
    written = ask("masks", spec, asset_of(spec), tmp_path / "masks")["masks"]
    assert written
    for file in written.values():
        mask, truth = read_mask(tmp_path / "masks" / file), read_mask(capture.parent / "truth" / "masks" / file)
        assert 0.2 < mask.sum() / truth.sum() < 0.8


def test_what_is_told_to_people(capture: Path, tmp_path: Path) -> None:
    told = tell("masks", capture, asset_of(capture), capture.parent / "own masks").out
    assert f"no mask for {LEFT_OUT}" in told and 'masks: {path: "own masks", role: outline}' in told
    error = ask("masks", capture, asset_of(capture), capture.parent / "own masks", code=2)["error"]
    assert "expected an empty folder" in error["message"]
    (tmp_path / "file").write_text("")
    assert "found a file" in ask("masks", capture, asset_of(capture), tmp_path / "file", code=2)["error"]["message"]
    assert "found 'nobody'" in ask("masks", capture, "nobody", tmp_path / "m", code=2)["error"]["message"]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"scene_mode": True, "reasons": ["points_inside: expected at least 50, found 3"]}, "points_inside: expected"),
        ({"scene_mode": False, "given": True}, "an alpha channel"),
        (None, "the mask stage is not done"),
    ],
)
def test_where_there_are_no_masks_it_says_why(
    capture: Path, tmp_path: Path, facts: dict[str, Any] | None, words: str
) -> None:
    spec = copy_of(capture, tmp_path)
    plain = says()
    commit(spec, {Stage.INGEST: plain, Stage.POSE: plain} | ({} if facts is None else {Stage.MASK: says(**facts)}))
    error = ask("masks", spec, asset_of(spec), tmp_path / "masks", code=2)["error"]
    assert words in error["message"] and error["asset"] == asset_of(spec) and error["hint"]
    assert not (tmp_path / "masks").exists()


def test_poses_of_an_earlier_version_are_named(capture: Path, tmp_path: Path) -> None:
    spec = copy_of(capture, tmp_path)
    shutil.copytree(capture.parent / "store", tmp_path / "store")
    (path,) = (tmp_path / "store").rglob("pose/*/DONE.json")
    done = Done.model_validate_json(path.read_bytes())
    files = tuple(file for file in done.files if file.path != LENSES_FILE)
    path.write_bytes(canonical_json(done.model_copy(update={"files": files})))
    error = ask("masks", spec, asset_of(spec), tmp_path / "masks", code=2)["error"]
    assert "expected lenses.json of stage pose" in error["message"] and "--from pose" in error["hint"]
