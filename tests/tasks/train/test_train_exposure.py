"""Photos of different exposure and white balance: measured from shared points, and fitted in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from models.results import StageRequest
from models.stage import Stage
from tasks.context import Context
from tasks.gains import solve_gains
from tasks.sample import scenes
from tasks.stage_files import read_poses
from tasks.train.exposure import differ, measured_gains
from tests.support import make_context, ref_of

VIEWS = 10


def capture(folder: Path, gains: npt.NDArray[np.float64]) -> Context:
    """A painted ball whose photos were multiplied with gains [VIEWS, 3]."""
    mesh = scenes.paint(scenes.sphere(1.0, 5), 4.0)
    written = folder / "store" / "pose"
    poses = scenes.write_pose_outputs(written, mesh, scenes.fibonacci_cameras(VIEWS, 120, 90, 4.0), points=1500)
    for image, gain in zip(poses.images, gains, strict=True):
        path = written / str(image.image)
        with Image.open(path) as picture:
            values = np.asarray(picture, dtype=np.float64) * gain
        Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8)).save(path, quality=97, subsampling=0)
    request = StageRequest(
        asset="ball",
        stage=Stage.TRAIN,
        method="hash_density",
        version="1",
        options={},
        inputs={"pose": ref_of(written, "store:pose")},
    )
    return make_context(request, folder)


def test_gains_of_photos_are_measured_from_the_points_that_they_share(tmp_path: Path) -> None:
    true = np.exp(np.random.default_rng(3).normal(0.0, 0.12, (VIEWS, 3)))
    context = capture(tmp_path, true)
    found = measured_gains(read_poses(context), context)
    assert found is not None and differ(found)
    chosen = np.array([image.split == "train" for image in read_poses(context).images])
    expected = np.log(true[chosen]) - np.log(true[chosen]).mean(0)
    assert np.abs(found - expected).max() < 0.03


def test_equal_photos_do_not_differ(tmp_path: Path) -> None:
    context = capture(tmp_path, np.ones((VIEWS, 3)))
    found = measured_gains(read_poses(context), context)
    assert found is not None and not differ(found)
    assert not differ(None)


def test_highlights_in_some_photos_do_not_change_the_gains() -> None:
    rng = np.random.default_rng(0)
    own, gain = rng.normal(0, 0.5, 300), np.linspace(-0.3, 0.3, 8)
    logs = own[:, None] + gain[None] + rng.normal(0, 0.01, (300, 8))
    logs[:40, 2] += 1.0
    found = solve_gains(logs, np.ones_like(logs))
    assert np.abs(found - found.mean() - (gain - gain.mean())).max() < 0.02


@pytest.mark.parametrize("masked", [False, True])
def test_training_keeps_gains_apart_from_what_is_empty(tmp_path: Path, masked: bool) -> None:
    """The gain scales the light of the object, never the random colour behind an empty pixel."""
    from models.fields.kernels.ops import Composited
    from tasks.train.hash_learner import Batch, HashFieldLearner
    from tasks.train.pixel_bank import Pixels

    class Learner(HashFieldLearner):
        def __init__(self) -> None:  # only what the colour loss reads
            self.device, self.error_map, self.residuals, self.photo_weights = "cpu", None, None, None
            self.generator = torch.Generator().manual_seed(0)
            self.empty_outside_mask = True
            self.log_gain = torch.nn.Parameter(torch.tensor([[0.5, 0.5, 0.5], [-0.5, -0.5, -0.5]]))
            self.options = type("Options", (), {"exposure": True, "distortion": 0.0})()  # type: ignore[assignment]
            self.field = None  # type: ignore[assignment]

    alpha = torch.zeros(2) if masked else torch.ones(2)
    light, through = torch.full((2, 3), 0.2), torch.zeros(2)
    if masked:
        light, through = torch.zeros(2, 3), torch.ones(2)
    rgb = torch.stack([torch.full((3,), 0.2 * float(np.exp(0.5))), torch.full((3,), 0.2 * float(np.exp(-0.5)))])
    rays = torch.zeros(2, 3)
    pixels = Pixels(rays, rays, rgb, alpha, torch.tensor([0, 1]), torch.tensor([0, 1]))
    seen = Composited(*[{"light": light, "through": through}.get(name, torch.zeros(2)) for name in Composited._fields])
    loss = Learner()._colour_loss(Batch(pixels, torch.zeros(2), torch.ones(2)), seen)
    assert float(loss.detach()) < 1e-6
