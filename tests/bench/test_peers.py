"""The peer is scored on the pixels that ours are scored on, and a peer that is not there or fails is said to be."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bench import engine
from bench.engine_rows import LEGO_EXTENT, TILE, TRACKED
from bench.peers import tensorf
from bench.posed import View, bank
from models.camera import Camera


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two RGBA pictures of random pixels, 5 rows of 7."""
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"r_{number}.png" for number in range(2)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)).save(path)
    return paths


def scored(pictures: list[Path], model: torch.nn.Module) -> tensorf.HeldOut:
    """Held-out pixels of a trainer that has these pictures; its rays are the pixels' (photo, row, column)."""
    manager = SimpleNamespace(
        eval_dataset=SimpleNamespace(image_filenames=pictures), eval_ray_generator=torch.nn.Identity()
    )
    return tensorf.HeldOut(SimpleNamespace(pipeline=SimpleNamespace(datamanager=manager, model=model)))


class Grey(torch.nn.Module):
    """Every ray has the colour 0.25, 0.5 and one that is over 1."""

    def forward(self, rays: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"rgb": torch.tensor([[0.25, 0.5, 7.0]]).expand(len(rays), 3)}


class Photographs(torch.nn.Module):
    """Every ray has its pixel's colour in `rgb` [P, H, W, 3]."""

    def __init__(self, rgb: torch.Tensor) -> None:
        super().__init__()
        self.rgb = rgb

    def forward(self, rays: torch.Tensor) -> dict[str, torch.Tensor]:
        photo, row, column = rays.unbind(1)
        return {"rgb": self.rgb[photo, row, column]}


def test_the_peer_s_pixels_are_ours(pictures: list[Path]) -> None:
    def view(path: Path) -> View:
        rgba = np.asarray(Image.open(path), dtype=np.float32) / 255.0
        return View(path.name, Camera(width=7, height=5, fx=5.0, fy=5.0, cx=3.5, cy=2.5), np.eye(4), rgba)

    index = torch.arange(70)
    ours = bank([view(path) for path in pictures]).take(index).rgb
    heldout = scored(pictures, Grey())
    assert torch.equal(heldout.rgb.reshape(-1, 3).float() / 255.0, ours)
    some = torch.tensor([3, 40, 61, 12])
    squares = (torch.tensor([0.25, 0.5, 1.0]) - ours[some]).square().mean()
    assert heldout.psnr(some) == pytest.approx(-10.0 * math.log10(float(squares)), abs=1e-4)
    assert scored(pictures, Photographs(ours.reshape(2, 5, 7, 3))).psnr(index) == pytest.approx(120.0)
    assert (tensorf.HALF_EXTENT, tensorf.TRACKED, tensorf.TILE) == (LEGO_EXTENT, TRACKED, TILE)


def test_a_peer_that_is_not_there_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = engine.peer(None, 1.0, tmp_path)
    assert absent["psnr"] == "not measured" and "nerfstudio==" in absent["to_measure"]
    failed = engine.peer(sys.executable, 1.0, tmp_path)
    assert "error" in failed and "psnr" not in failed
    for row in (absent, failed):
        assert engine.figures({"lego": [row]})["lego_psnr_peer"] == "not measured"
    assert engine.figures({"lego": [{**absent, "psnr": 20.5}]})["lego_psnr_peer"] == 20.5
    capsys.readouterr()
