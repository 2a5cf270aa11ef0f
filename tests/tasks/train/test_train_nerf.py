"""The vanilla NeRF method on a ball: it learns, repeats itself, resumes, and is a field like any other."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from infra.storage import FolderStore
from models.camera import PoseSet
from models.errors import DigitizeError, ReasonCode
from models.fields import load_field
from models.fields.render import render_image
from models.results import StageRequest
from models.stage import Stage
from tasks.context import Context
from tasks.registry import effective_options
from tasks.train import nerf_learner as nerf
from tasks.train import stream, task, trainer
from tasks.train.inputs import open_bank
from tasks.train.methods.nerf import PRESETS, Options, estimate, resources
from tests.support import make_context, ref_of
from tests.tasks.train.train_capture import write_capture

VIEWS = 24
TINY: dict[str, Any] = {
    "steps": 30,
    "rays": 64,
    "depth": 3,
    "width": 32,
    "coarse_samples": 16,
    "fine_samples": 16,
    "position_frequencies": 3,
    "direction_frequencies": 1,
    "learning_rate": 5e-3,
    "evaluate_every": 20,
    "occupancy_resolution": 32,
    "ray_steps": 128,
    "mask_use": "empty",
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    return write_capture(tmp_path_factory.mktemp("ball"), VIEWS, 32, masks=True)


def nerf_context(store: FolderStore, folder: Path, seed: int = 0, **options: Any) -> Context:
    effective = effective_options(Stage.TRAIN, "nerf", "preview", {**TINY, **options})
    request = StageRequest(
        asset="ball",
        stage=Stage.TRAIN,
        method="nerf",
        version="1",
        options=effective.model_dump(mode="json"),
        inputs={"pose": ref_of(store.root / "pose", "store:pose")},
        seed=seed,
        resources={"memory_gb": 8.0},
    )
    return make_context(request, folder, store, threads=2)


def output_bytes(context: Context) -> dict[str, bytes]:
    files = sorted(path for path in context.output.rglob("*") if path.is_file())
    return {str(path.relative_to(context.output)): path.read_bytes() for path in files}


def test_it_learns_the_ball(capture: FolderStore, tmp_path: Path) -> None:
    context = nerf_context(capture, tmp_path, steps=300, rays=192, evaluate_every=100)
    result = task.run(context.request, context)
    assert result.facts["psnr_heldout"] > 18.0
    assert result.facts["occupancy"] < 0.4
    history = json.loads((context.output / "train.json").read_text())["history"]
    assert [entry["step"] for entry in history] == [100, 200, 300]
    assert history[0]["psnr"] < history[-1]["psnr"]
    field = load_field(context.output / "model")
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    view = poses.of_split("heldout")[0]
    picture = render_image(field, view.camera, view.c2w, poses.world_from_field)
    with Image.open(context.fetch("pose", view.mask or "")) as mask:
        inside = np.asarray(mask) > 128
    assert float(((picture.opacity > 0.5) == inside).mean()) > 0.93
    assert picture.depth[16, 16] == pytest.approx(3.0, abs=0.3)
    direction = torch.nn.functional.normalize(torch.randn(200, 3), dim=1)
    assert bool((field.query(direction * 0.3)[0] > field.level).all())
    assert bool((field.query(direction * 0.8)[0] < field.level).all())


def test_seeds_differ(capture: FolderStore, tmp_path: Path) -> None:
    outputs = []
    for seed in (3, 4):
        context = nerf_context(capture, tmp_path / str(seed), seed=seed)
        task.run(context.request, context)
        outputs.append(output_bytes(context))
    scalars = "scalars/events.out.tfevents.0.train"
    assert set(outputs[0]) == {
        "model/representation.json",
        "model/field.json",
        "model/field.safetensors",
        scalars,
        "train.json",
    }
    assert outputs[0]["model/field.safetensors"] != outputs[1]["model/field.safetensors"]


def test_a_killed_run_that_streams_resumes_to_the_same_bytes(
    capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"photos": "stream", "photo_memory_gb": 1e-4}
    monkeypatch.setattr(trainer, "SNAPSHOT_STEPS", 10)
    monkeypatch.setattr(stream, "TURN_EVERY", 4)
    stores = [FolderStore(Path(shutil.copytree(Path(capture.uri), tmp_path / name))) for name in ("one", "two")]
    whole = nerf_context(stores[0], tmp_path / "whole", checkpoint_every_s=1e-6, **options)
    task.run(whole.request, whole)
    stream_and_steps = iter(range(10_000))
    stopped = nerf_context(stores[1], tmp_path / "stopped", checkpoint_every_s=1e-6, **options)
    stopped.cancelled = lambda: next(stream_and_steps) >= 1 + 23
    with pytest.raises(DigitizeError) as error:
        task.run(stopped.request, stopped)
    assert error.value.code is ReasonCode.CANCELLED
    again = nerf_context(stores[1], tmp_path / "again", checkpoint_every_s=1e-6, **options)
    assert again.load_checkpoint(trainer.CHECKPOINT) is not None
    task.run(again.request, again)
    assert output_bytes(again) == output_bytes(whole)


def test_slices_do_not_show(capture: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without random places of the samples, a batch in slices has the gradients of the whole."""
    context = nerf_context(capture, tmp_path)
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    options = Options.model_validate(context.request.options).model_copy(update={"mask_use": "ignore"})
    monkeypatch.setattr(torch, "rand", lambda *shape, **given: torch.full(shape, 0.5))
    found = []
    for samples in (1 << 15, 7 * 32):
        monkeypatch.setattr(nerf, "SLICE_SAMPLES", samples)
        learner = nerf.NerfLearner(
            nerf.new_field(options, 0), open_bank(poses, "train", 1.0, context), None, options, 5, "cpu"
        )
        found.append(learner._shard(learner.generators[0]))
    assert found[0].rays == found[1].rays == 32
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)
    for one, other in zip(found[0].gradients, found[1].gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_masked_pixels_are_left_out_or_empty(capture: FolderStore, tmp_path: Path) -> None:
    context = nerf_context(capture, tmp_path)
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    used = {}
    for use in ("ignore", "empty"):
        options = Options.model_validate({**context.request.options, "mask_use": use})
        bank = open_bank(poses, "train", 1.0, context)
        learner = nerf.NerfLearner(nerf.new_field(options, 0), bank, None, options, 0, "cpu")
        used[use] = learner._draw(learner.generators[0]).used
    assert bool(used["ignore"].all())
    assert 0.2 < float(used["empty"].float().mean()) < 0.8


def test_before_white_nothing_is_white(tmp_path: Path) -> None:
    """An untrained field whose density is taken away shows the background alone, in training and in pictures."""
    options = Options.model_validate({**TINY, "white_background": True})
    field = nerf.new_field(options, 0)
    with torch.no_grad():
        for network in (field.coarse, field.fine):
            network.density.weight.zero_()
            network.density.bias.fill_(-50.0)
    store = write_capture(tmp_path / "few", 3, 16)
    context = nerf_context(store, tmp_path)
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    learner = nerf.NerfLearner(field, open_bank(poses, "train", 1.0, context), None, options, 0, "cpu")
    pixels = learner.psnr_pixels._replace(rgb=torch.ones_like(learner.psnr_pixels.rgb))
    assert float(learner._loss(pixels, learner.generators[0]).detach()) == pytest.approx(0.0, abs=1e-6)
    assert learner._psnr(pixels) > 90.0
    view = poses.images[0]
    assert render_image(field, view.camera, view.c2w, poses.world_from_field).rgb.min() > 0.999


def test_too_little_memory_is_said_before_the_start(capture: FolderStore, tmp_path: Path) -> None:
    context = nerf_context(capture, tmp_path)
    context.request = context.request.model_copy(
        update={"resources": context.request.resources.model_copy(update={"memory_gb": 0.1})}
    )
    with pytest.raises(DigitizeError) as error:
        task.run(context.request, context)
    assert error.value.code is ReasonCode.OUT_OF_MEMORY


def test_the_method_imports_without_torch() -> None:
    importlib.import_module("tasks.train.methods.nerf")
    code = "import sys, tasks.train.methods.nerf; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_presets_and_estimates() -> None:
    options = {name: Options.model_validate(values) for name, values in PRESETS.items()}
    expected = [estimate(options[name], 48, 0.3) for name in ("preview", "standard", "high")]
    assert expected[0].seconds < 900
    assert expected[0].seconds < expected[1].seconds < expected[2].seconds
    for name, each in zip(options, expected, strict=True):
        assert resources(options[name]).memory_gb >= each.memory_gb
        assert resources(options[name]).timeout_s > each.seconds


@pytest.mark.parametrize("bad", [{"ray_steps": 100}, {"coarse_samples": 2}, {"width": 33}, {"no_such": 1}])
def test_options_that_cannot_work_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(bad)
