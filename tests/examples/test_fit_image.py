"""The picture-fitting example: what the papers say of encodings holds for ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.fit_image import ENCODINGS, Fit, fit, synthetic_picture
from models.fields.threads import threads_of

ROOT = Path(__file__).resolve().parents[2]
SIZE, STEPS = 64, 200
STRIPES = (slice(36, 60), slice(42, 60))


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    with threads_of(1):
        return {encoding: fit(synthetic_picture(SIZE), encoding, STEPS) for encoding in ENCODINGS}


def test_encodings_beat_raw_coordinates(fits: dict[str, Fit]) -> None:
    assert fits["raw"].psnr > 10.0
    assert fits["frequency"].psnr > fits["raw"].psnr + 5.0
    assert fits["hash"].psnr > fits["raw"].psnr + 8.0


def test_the_difference_is_the_fine_detail(fits: dict[str, Fit]) -> None:
    """The stripes' contrast, about 0.3, is lost without an encoding and kept with one."""
    truth = synthetic_picture(SIZE)[STRIPES]
    share = {name: found.picture[STRIPES].std() / truth.std() for name, found in fits.items()}
    assert share["raw"] < 0.5
    assert share["frequency"] > 0.75
    assert share["hash"] > 0.75


def test_psnr_is_that_of_the_picture_and_repeats(fits: dict[str, Fit]) -> None:
    error = float(np.mean((fits["hash"].picture - synthetic_picture(SIZE)) ** 2))
    assert fits["hash"].psnr == pytest.approx(-10.0 * np.log10(error), abs=1e-3)
    again = fit(synthetic_picture(SIZE), "hash", 5, seed=1)
    assert again.psnr == fit(synthetic_picture(SIZE), "hash", 5, seed=1).psnr


def test_the_script_writes_the_pictures_side_by_side(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    command = [sys.executable, "examples/fit_image.py", str(tmp_path / "photo.png"), "--size", "30", "--steps", "2"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "fit.png")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == list(ENCODINGS)
    with Image.open(tmp_path / "fit.png") as picture:
        assert picture.size == (4 * 30, 10)
