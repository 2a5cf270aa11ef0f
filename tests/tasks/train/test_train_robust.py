"""Moving highlights, moving shadows and blur dent the surface less, and clean photos train as before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from infra.storage import FolderStore
from models.errors import DigitizeError
from models.fields import load_field
from models.fields.kernels.ops import Composited
from models.stage import Stage
from tasks.context import Context
from tasks.registry import effective_options
from tasks.stage_files import read_poses
from tasks.train import robust, task, trainer
from tasks.train.error_map import CELLS, ErrorMap
from tasks.train.hash_learner import Batch, HashFieldLearner
from tasks.train.inputs import open_bank
from tasks.train.pixel_bank import PixelBank, Pixels
from tasks.train.robust import BLURRED, FORGET, LOWEST, ResidualWeights, photo_weights, sharpness
from tests.tasks.train.test_train_dense_prior import radius_of, shape_error
from tests.tasks.train.train_capture import TINY, train_context, write_capture

SIZE, VIEWS = 64, 48
SHARED: dict[str, Any] = {"steps": 450, "samples_per_step": 6000, "mask_use": "empty", "exposure": False}
LEARNT: dict[str, dict[str, Any]] = {
    "hash_sdf": {
        # nothing but colours places the surface, which starts from a smaller ball
        **{"levels_from": 3, "initial_radius": 0.45, "rough_until": 0.0, "error_map": False},
        **{"ncc": 0.0, "carve": 0.0, "fill": 0.0, "flat": 0.0},
    },
    "hash_density": {},
}
FINE: dict[str, Any] = {"log2_table": 15, "max_resolution": 64, "samples_per_step": 4096}
"""With tables this large equal photos give equal PSNR, whatever the seed, to 0.5 dB."""
Picture = Image.Image


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    return write_capture(tmp_path_factory.mktemp("ball"), VIEWS, SIZE, masks=True)


def altered(clean: FolderStore, folder: Path, change: Callable[[int, Picture], Picture]) -> FolderStore:
    """The capture with each training photo changed, by its number."""
    store = FolderStore(Path(shutil.copytree(Path(clean.uri), folder)))
    context = context_of(store, folder.parent / f"{folder.name}_read", "hash_density")
    for number, image in enumerate(read_poses(context).of_split("train")):
        path = store.root / "pose" / str(image.image)
        with Image.open(path) as picture:
            changed = change(number, picture.convert("RGB"))
        changed.save(path, quality=97, subsampling=0)
    return store


def shone_on(number: int, picture: Picture) -> Picture:
    """With a white spot and a dark band at random places of the ball."""
    rng = np.random.default_rng(number)
    values = np.asarray(picture).copy()
    v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5 - SIZE / 2
    turn, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-15, 15)
    ball = np.hypot(u, v) < 22
    band = np.abs(u * np.cos(turn) + v * np.sin(turn) - offset) < 2.5
    values[band & ball] = values[band & ball] // 3
    place = rng.uniform(-12, 12, 2)
    values[np.hypot(u - place[0], v - place[1]) < 4.5] = 255
    return Image.fromarray(values)


def blurred(number: int, picture: Picture) -> Picture:
    """Every fifth photo out of focus."""
    return picture.filter(ImageFilter.GaussianBlur(3)) if number % 5 == 0 else picture


def context_of(store: FolderStore, folder: Path, method: str, seed: int = 0, **options: Any) -> Context:
    context = train_context(store, folder, seed)
    chosen = {**TINY, **SHARED, "robust": True, **LEARNT[method], **options}
    effective = effective_options(Stage.TRAIN, method, "preview", chosen)
    changes = {"method": method, "options": effective.model_dump(mode="json")}
    context.request = context.request.model_copy(update=changes)
    return context


def trained(store: FolderStore, folder: Path, method: str, seed: int = 0, **options: Any) -> tuple[float, float]:
    """Mean distance of the surface to the ball in field units, and held-out PSNR."""
    context = context_of(store, folder, method, seed, **options)
    result = task.run(context.request, context)
    return shape_error(load_field(context.output / "model"), radius_of(store)), float(result.facts["psnr_heldout"])


def bank_of(store: FolderStore, folder: Path) -> PixelBank:
    context = context_of(store, folder, "hash_density")
    return open_bank(read_poses(context), "train", 4.0, context)


@pytest.mark.parametrize("method", ["hash_sdf", pytest.param("hash_density", marks=pytest.mark.slow)])
def test_moving_highlights_and_shadows_dent_the_surface_less(clean: FolderStore, tmp_path: Path, method: str) -> None:
    store = altered(clean, tmp_path / "shone_on", shone_on)
    found = {on: trained(store, tmp_path / str(on), method, robust=on) for on in (True, False)}
    assert found[True][0] < 0.95 * found[False][0], found
    assert found[True][1] > found[False][1] + 0.3, found


@pytest.mark.parametrize("method", ["hash_sdf", pytest.param("hash_density", marks=pytest.mark.slow)])
def test_clean_photos_keep_their_weight(
    clean: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Over the last hundred steps. A seed moves the PSNR of so short a training by more than weights do."""
    means: list[float] = []
    plain = HashFieldLearner._weights

    def watched(
        learner: HashFieldLearner, pixels: Pixels, residual: torch.Tensor, through: torch.Tensor
    ) -> torch.Tensor:
        weight = plain(learner, pixels, residual, through)
        means.append(float(weight.mean()))
        return weight

    monkeypatch.setattr(HashFieldLearner, "_weights", watched)
    trained(clean, tmp_path, method)
    assert np.mean(means[-100:]) > 0.97


def test_clean_photos_train_as_well_as_without(clean: FolderStore, tmp_path: Path) -> None:
    psnr = {on: trained(clean, tmp_path / str(on), "hash_density", robust=on, **FINE)[1] for on in (True, False)}
    assert psnr[True] > psnr[False] - 0.2, psnr


def test_blurred_photos_weigh_less(clean: FolderStore, tmp_path: Path) -> None:
    weights = photo_weights(bank_of(altered(clean, tmp_path / "blurred", blurred), tmp_path / "bank"), 0.1)
    soft = torch.arange(len(weights)) % 5 == 0
    assert float(weights[soft].max()) < 0.6
    assert float(weights[soft].min()) >= BLURRED
    assert float(weights[~soft].min()) > 0.95
    assert float(photo_weights(bank_of(clean, tmp_path / "clean"), 0.1).mean()) > 0.98


def test_sharpness_is_read_where_a_photo_is_used() -> None:
    """Of noise: of full contrast on the left, blurred on the right. What is flat tells nothing."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (64, 128), dtype=np.uint8))
    grey = np.asarray(noise).copy()
    grey[:, 64:] = np.asarray(noise.filter(ImageFilter.GaussianBlur(2)))[:, 64:]
    left = np.arange(128)[None] < 64
    used = np.broadcast_to(left, (64, 128))
    assert sharpness(grey, ~used) < 0.5 * sharpness(grey, used)
    assert sharpness(grey // 2, used) == pytest.approx(sharpness(grey, used), rel=0.05)
    assert np.isnan(sharpness(np.zeros((64, 128), np.uint8), used))
    assert np.isnan(sharpness(grey, np.zeros_like(used)))


def test_weights_of_known_residuals() -> None:
    weights = ResidualWeights("cpu")
    met, missed = torch.zeros(5), torch.ones(5)
    weights.update(torch.tensor([0.1, 0.1, 0.1, 0.1, 0.9]), met)
    weights.update(torch.full((5,), 0.9), missed)
    assert float(weights.median) == pytest.approx(0.1)
    residual = torch.tensor([0.0, 0.1, 0.3, 0.6, 3.0])
    assert weights.of(residual, met).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.25, LOWEST])
    assert weights.of(residual, missed).tolist() == [1.0] * 5
    weights.update(torch.full((5,), 0.2), met)
    assert 0.1 < float(weights.median) < 0.11


class Learner(HashFieldLearner):
    """Only what the colour loss reads."""

    def __init__(self) -> None:
        self.device, self.empty_outside_mask = "cpu", True
        self.generator = torch.Generator().manual_seed(0)
        self.options = type("Options", (), {"exposure": False, "distortion": 0.0})()
        self.field = None  # type: ignore[assignment]
        self.error_map = ErrorMap([(CELLS, CELLS)] * 2, "cpu")
        self.residuals, self.photo_weights = ResidualWeights("cpu"), torch.tensor([1.0, 0.5])
        self.residuals.median.fill_(0.05)


def test_the_loss_and_the_error_map_use_the_weights() -> None:
    """Rays of residuals 0.1 and 0.6 in a sharp photo, 0.1 in a blurred one, against an outlier bound of 0.15."""
    learner, number = Learner(), torch.tensor([0, 5, CELLS**2])
    rgb = torch.tensor([0.1, 0.6, 0.1])[:, None].expand(3, 3)
    rays, ones = torch.zeros(3, 3), torch.ones(3)
    pixels = Pixels(rays, rays, rgb, ones, torch.tensor([0, 0, 1]), number)
    seen = Composited(*[rays if name == "light" else torch.zeros(3) for name in Composited._fields])
    huber = torch.tensor([0.05, 0.55, 0.05])
    losses = []
    for learner.share in (0.0, 1.0):
        learner.residuals.median.fill_(0.05)  # type: ignore[union-attr]
        learner.error_map.errors.zero_()  # type: ignore[union-attr]
        losses.append(float(learner._colour_loss(Batch(pixels, ones, ones), seen)))
    weight = {0.0: torch.tensor([1.0, 1.0, 0.5]), 1.0: torch.tensor([1.0, LOWEST, 0.5])}
    cut = 3.0 * (0.05 + FORGET * 0.05)
    weight[1.0][1] = max(LOWEST, (cut / 0.6) ** 2)
    expected = [float((w * huber).sum() / w.sum()) for w in weight.values()]
    assert losses == pytest.approx(expected, rel=1e-4)
    noted = learner.error_map.errors[number]  # type: ignore[union-attr]
    assert noted.tolist() == pytest.approx((0.3 * weight[1.0] * rgb[:, 0]).tolist(), rel=1e-4)


@pytest.mark.parametrize("method", ["hash_sdf", pytest.param("hash_density", marks=pytest.mark.slow)])
def test_it_resumes_to_the_same_bytes(
    clean: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(trainer, "SNAPSHOT_STEPS", 10)
    monkeypatch.setattr(robust, "MET", 2.0)  # so early the object is fog that no ray meets
    short: dict[str, Any] = {"steps": 60, "evaluate_every": 40, "checkpoint_every_s": 1e-6, "error_map": True}
    stores = [altered(clean, tmp_path / name, shone_on) for name in ("one", "two")]
    whole = context_of(stores[0], tmp_path / "whole", method, **short)
    task.run(whole.request, whole)
    checks = iter(range(10_000))  # one a photo, then one a step
    stopped = context_of(stores[1], tmp_path / "stopped", method, **short)
    stopped.cancelled = lambda: next(checks) >= VIEWS + 45
    with pytest.raises(DigitizeError):
        task.run(stopped.request, stopped)
    again = context_of(stores[1], tmp_path / "again", method, **short)
    assert again.load_checkpoint(trainer.CHECKPOINT) is not None
    task.run(again.request, again)
    name = "model/field.safetensors"
    assert (again.output / name).read_bytes() == (whole.output / name).read_bytes()
