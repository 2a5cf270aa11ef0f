"""The train stage from end to end on a ball: it learns, repeats itself, resumes, and renders what it learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infra.storage import FolderStore
from models.camera import PoseSet, similarity_scale
from models.errors import DigitizeError, ReasonCode
from models.fields import load_field
from models.fields.render import render_image
from models.ladder import SteppedDown
from tasks.commit import find_done, run_stage
from tasks.context import Context
from tasks.train import hash_learner, task, trainer
from tasks.train.inputs import open_bank
from tasks.train.memory import _smaller
from tasks.train.methods.hash_density import Options, estimate
from tasks.train.radiance_learner import RadianceLearner, new_field
from tasks.train.trainer import StepFacts
from tests.tasks.train.train_capture import train_context, write_capture

PHOTOS = 48


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    return write_capture(tmp_path_factory.mktemp("ball"), PHOTOS, 64)


def output_bytes(context: Context) -> dict[str, bytes]:
    files = sorted(path for path in context.output.rglob("*") if path.is_file())
    return {str(path.relative_to(context.output)): path.read_bytes() for path in files}


def test_it_learns_the_ball(capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = train_context(capture, tmp_path, steps=500, samples_per_step=6000, evaluate_every=400)
    monkeypatch.setattr(trainer, "PROGRESS_S", 0.05)
    seen: list[float] = []
    left: list[list[float]] = []

    def progress(share: float, message: str, facts: dict[str, Any]) -> None:
        seen.append(share)
        left.append(facts.get("remaining_s", []))

    context.progress = progress
    result = task.run(context.request, context)
    assert result.facts["psnr_heldout"] > 22.0
    assert result.facts["occupancy"] < 0.5
    assert seen == sorted(seen)
    assert any(left) and all(0 <= low <= high for low, high in filter(None, left))
    assert [entry["step"] for entry in json.loads((context.output / "train.json").read_text())["history"]] == [400, 500]
    field = load_field(context.output / "model")
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    view = poses.of_split("heldout")[0]
    picture = render_image(field, view.camera, view.c2w, poses.world_from_field, check=context.check)
    with Image.open(context.fetch("pose", view.image or "")) as photo:
        error = float(np.mean((np.asarray(photo) / 255.0 - picture.rgb) ** 2))
    assert -10 * np.log10(error) > 20.0
    middle = view.camera.height // 2
    assert picture.opacity[middle, middle] > 0.9
    assert picture.depth[middle, middle] == pytest.approx(3.0, abs=0.3)
    assert picture.opacity[0, 0] < 0.3
    assert similarity_scale(poses.world_from_field) == pytest.approx(1 / 0.6)


def test_equal_requests_give_equal_bytes_and_seeds_differ(capture: FolderStore, tmp_path: Path) -> None:
    outputs = []
    everything: dict[str, Any] = {
        "exposure": True,
        "distortion": 0.01,
        "error_map": True,
        "refine_cameras": True,
        "average": 0.9,
    }
    for number, seed in enumerate((3, 3, 4)):
        context = train_context(capture, tmp_path / str(number), seed=seed, **everything)
        context.threads = 1 + number
        task.run(context.request, context)
        outputs.append(output_bytes(context))
    assert set(outputs[0]) == {
        "cameras.json",
        "model/representation.json",
        "model/field.json",
        "model/field.safetensors",
        "scalars/events.out.tfevents.0.train",
        "train.json",
    }
    assert outputs[0] == outputs[1]
    assert outputs[0]["model/field.safetensors"] != outputs[2]["model/field.safetensors"]


def test_a_killed_run_with_everything_on_resumes_to_the_same_bytes(
    capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"error_map": True, "refine_cameras": True, "photos": "stream", "photo_memory_gb": 1e-4}
    monkeypatch.setattr(trainer, "SNAPSHOT_STEPS", 10)
    monkeypatch.setattr(hash_learner, "CAMERAS_FROM", 5)
    stores = [FolderStore(Path(shutil.copytree(Path(capture.uri), tmp_path / name))) for name in ("one", "two")]
    whole = train_context(stores[0], tmp_path / "whole", checkpoint_every_s=1e-6, exposure=False, **options)
    task.run(whole.request, whole)
    checks = iter(range(10_000))  # two of the streams, then one a step
    stopped = train_context(stores[1], tmp_path / "stopped", checkpoint_every_s=1e-6, exposure=False, **options)
    stopped.cancelled = lambda: next(checks) >= 2 + 45
    with pytest.raises(DigitizeError) as error:
        task.run(stopped.request, stopped)
    assert error.value.code is ReasonCode.CANCELLED
    again = train_context(stores[1], tmp_path / "again", checkpoint_every_s=1e-6, exposure=False, **options)
    assert again.load_checkpoint(trainer.CHECKPOINT) is not None
    result = task.run(again.request, again)
    assert output_bytes(again) == output_bytes(whole)
    assert result.facts["steps"] == 60


def test_half_tables_follow_the_table_through_steps_evaluations_and_restores(
    capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for on a GPU alone, but equal everywhere."""
    assert hash_learner.table_type(Options(table_precision="float16"), "cpu") is None
    assert hash_learner.table_type(Options(), "cuda") is None
    assert hash_learner.table_type(Options(table_precision="bfloat16"), "cuda") is torch.bfloat16
    context = train_context(capture, tmp_path)
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    options = Options.model_validate(context.request.options)
    bank = open_bank(poses, "train", 1.0, context)

    def new_learner() -> RadianceLearner:
        return RadianceLearner(new_field(options, 0, outside=True), bank, None, options, 0, "cpu")

    single = new_learner()
    monkeypatch.setattr(hash_learner, "table_type", lambda options, device: torch.float16)
    learner = new_learner()

    def equal() -> bool:
        halves = [(part.rounded, part.table.detach()) for part in learner.encodings.values()]
        assert len(halves) == 2  # inside and outside
        return all(half is not None and torch.equal(half, table.half()) for half, table in halves)

    before = learner.evaluate()
    for _ in range(30):
        learner.step(0.1, 1.0)
        single.step(0.1, 1.0)
    assert equal() and learner.average is not None
    with learner.average.used():
        assert equal()
    assert learner.evaluate() == pytest.approx(single.evaluate(), abs=0.2)
    assert learner.evaluate() > before + 0.4 and equal()
    state = learner.state()
    losses = [learner.step(0.1, 1.0).loss for _ in range(3)]
    learner.restore(state)
    assert equal() and [learner.step(0.1, 1.0).loss for _ in range(3)] == losses


def test_it_steps_back_from_a_loss_that_is_not_a_number(
    capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SNAPSHOT_STEPS", 10)
    real, calls = RadianceLearner.step, iter(range(10_000))

    def poisoned(self: RadianceLearner, share: float, rate: float) -> StepFacts:
        facts = real(self, share, rate)
        return facts._replace(loss=float("nan")) if next(calls) == 25 else facts

    monkeypatch.setattr(RadianceLearner, "step", poisoned)
    context = train_context(capture, tmp_path, seed=50)
    result = task.run(context.request, context)
    assert result.facts["divergences"] == 1
    assert result.facts["steps"] == 60


def test_it_gives_up_after_three_divergences(
    capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def broken(self: RadianceLearner, share: float, rate: float) -> StepFacts:
        rates.append(rate)
        return StepFacts(float("inf"), 1, 1)

    monkeypatch.setattr(RadianceLearner, "step", broken)
    context = train_context(capture, tmp_path, seed=51)
    with pytest.raises(DigitizeError) as error:
        task.run(context.request, context)
    assert error.value.code is ReasonCode.DIVERGED
    assert rates == pytest.approx([1.0, trainer.LOWER_RATE, trainer.LOWER_RATE**2])


def test_budgets_of_time_and_plateau_stop_early(capture: FolderStore, tmp_path: Path) -> None:
    timed = train_context(capture, tmp_path / "timed", steps=100_000, seconds=0.5)
    assert task.run(timed.request, timed).facts["steps"] < 1000
    flat = train_context(capture, tmp_path / "flat", steps=2000, evaluate_every=5, plateau_db=90.0)
    assert task.run(flat.request, flat).facts["steps"] == 20
    good = train_context(capture, tmp_path / "good", steps=2000, evaluate_every=10, target_db=11.0)
    facts = task.run(good.request, good).facts
    assert facts["steps"] < 500
    steps = [entry["step"] for entry in json.loads((good.output / "train.json").read_text())["history"]]
    assert steps == list(range(10, facts["steps"] + 1, 10))
    assert facts["psnr_heldout"] >= 11.0


def limited(context: Context, memory_gb: float) -> Context:
    resources = context.request.resources.model_copy(update={"memory_gb": memory_gb})
    context.request = context.request.model_copy(update={"resources": resources})
    return context


def test_too_little_memory_is_said_before_the_start(capture: FolderStore, tmp_path: Path) -> None:
    context = limited(train_context(capture, tmp_path), 0.1)
    with pytest.raises(DigitizeError) as error:
        task.run(context.request, context)
    assert error.value.code is ReasonCode.OUT_OF_MEMORY


def test_it_steps_down_to_what_fits_and_says_so(capture: FolderStore, tmp_path: Path) -> None:
    options = {"steps": 20, "samples_per_step": 1 << 16, "log2_table": 18}
    lowered = {"samples_per_step": 1 << 13, "log2_table": 16}
    small = Options.model_validate({**train_context(capture, tmp_path).request.options, **options, **lowered})
    limit = estimate(small, PHOTOS, 64 * 64 / 1e6).memory_gb
    context = limited(train_context(capture, tmp_path, seed=70, **options), limit)
    done = run_stage(task.run, context.request, context)
    asked = {name: value for name, value in options.items() if name in lowered}
    assert done.stepped_down == SteppedDown(because=ReasonCode.OUT_OF_MEMORY, asked=asked, used=lowered)
    assert done.options == {**context.request.options, **lowered}
    small = context.request.model_copy(update={"options": done.options})
    assert done.key == small.key != context.request.key
    found = find_done(context.store, small)
    assert found is not None and (found.attempt, found.stepped_down) == (done.attempt, None)
    assert find_done(context.store, context.request) == done
    roomy = train_context(capture, tmp_path / "roomy", steps=10)
    assert task.run(roomy.request, roomy).lowered == {}


def test_photos_are_the_first_to_take_less_room() -> None:
    options = Options(photo_memory_gb=4.0)
    found = [each.photo_memory_gb for each in _smaller(options, photos_gb=1.5)]
    assert found[:4] == [4.0, 0.75, 0.375, 0.25]
    assert {each.samples_per_step for each in list(_smaller(options, 1.5))[:4]} == {options.samples_per_step}
    assert next(iter(list(_smaller(options, 0.1))[1:])).photo_memory_gb == 4.0


@pytest.mark.parametrize("use", ["ignore", "empty"])
def test_masks(tmp_path: Path, use: Any) -> None:
    store = write_capture(tmp_path / "masked", views=24, size=48, masks=True)
    context = train_context(store, tmp_path / "run", steps=200, mask_use=use)
    result = task.run(context.request, context)
    assert result.facts["psnr_heldout"] > 13.0
    field = load_field(context.output / "model")
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    view = poses.of_split("heldout")[0]
    picture = render_image(field, view.camera, view.c2w, poses.world_from_field)
    if use == "empty":
        assert picture.opacity[0, 0] < 0.05
        assert not any(name.startswith("outside") for name, _ in field.named_parameters())
