"""Undistortion, pair selection and options, each against its own truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from models.stage import Stage
from tasks import registry
from tasks.pose import features
from tasks.pose.base import Photo
from tasks.pose.options import Region
from tasks.pose.solve import Attempt, best
from tasks.pose.undistort import lens_record, pinhole_of, pinhole_pixels, redistort, undistort

import pycolmap  # isort: skip


def lens(width: int = 320, height: int = 240, k1: float = -0.12) -> Any:
    camera = pycolmap.Camera.create_from_model_name(1, "OPENCV", 300.0, width, height)
    camera.params = [300.0, 304.0, width / 2 + 4, height / 2 - 3, k1, 0.02, 0.001, -0.002]
    return camera


def photo(name: str, width: int = 320, height: int = 240) -> Photo:
    return Photo(name, name, Path(name), None, width, height, 2 * width, 2 * height, None, "k")


@pytest.mark.parametrize("k1", [-0.12, 0.15])
def test_undistortion_samples_where_the_lens_model_says(k1: float) -> None:
    camera = lens(k1=k1)
    v, u = np.mgrid[0:240, 0:320] + 0.5
    picture = 128 + 60 * np.sin(u / 9.0) + 60 * np.cos(v / 11.0)
    made = pinhole_of(camera)
    straight = undistort(made, np.round(picture).astype(np.uint8), smooth=True)
    c = made.camera
    v, u = np.mgrid[0 : c.height, 0 : c.width] + 0.5
    local = np.stack([(u - c.cx) / c.fx, (v - c.cy) / c.fy, np.ones_like(u)], -1).reshape(-1, 3)
    source = camera.img_from_cam(local)
    assert (source >= 0).all() and (source <= [320, 240]).all()
    expected = 128 + 60 * np.sin(source[:, 0] / 9.0) + 60 * np.cos(source[:, 1] / 11.0)
    difference = np.abs(straight.ravel() - expected).reshape(straight.shape)[4:-4, 4:-4]
    assert difference.max() < 1.6


@pytest.mark.parametrize("k1", [-0.12, 0.15])
def test_redistortion_is_the_inverse(k1: float) -> None:
    camera = lens(k1=k1)
    made = pinhole_of(camera)
    pixels = pinhole_pixels(lens_record("a.jpg", camera), made.camera)
    assert pixels.shape == (240, 320, 2)
    back = np.floor(made.source_pixels()).astype(int)  # the photo's pixel in which each pinhole pixel lies
    v, u = np.mgrid[0 : made.camera.height, 0 : made.camera.width] + 0.5
    assert np.abs(pixels[back[..., 1], back[..., 0]] - np.stack([u, v], -1)).max() < 0.8
    rows, columns = np.mgrid[0:240, 0:320]
    mask = ((columns - 150) / 90.0) ** 2 + ((rows - 110) / 60.0) ** 2 < 1.0
    straight = undistort(made, mask.astype(np.uint8) * 255, smooth=False) >= 128
    photo = np.asarray(redistort(straight, pixels, (800, 600)))
    assert photo.shape == (600, 800) and set(np.unique(photo)) == {0, 255}
    large = np.asarray(Image.fromarray(mask).resize((800, 600)))
    assert ((photo > 0) & large).sum() / ((photo > 0) | large).sum() > 0.985
    wide = np.asarray(redistort(np.ones_like(straight), pixels, (320, 240)))
    assert (wide == 255).all()  # what lies beyond the pinhole picture goes with its edge
    assert np.array_equal(np.asarray(redistort(mask, None, (320, 240))) > 0, mask)


def test_a_pinhole_photo_is_left_alone() -> None:
    camera = pycolmap.Camera.create_from_model_name(1, "OPENCV", 300.0, 320, 240)
    made = pinhole_of(camera)
    assert made.lens is None
    assert (made.camera.width, made.camera.fx) == (320, 300.0)


def test_pairs_join_look_alikes_across_the_sequence() -> None:
    rng = np.random.default_rng(0)
    places = [rng.integers(0, 255, (300, 128)) for _ in range(20)]
    walk = [places[k % 20] + rng.integers(0, 9, (300, 128)) for k in range(60)]
    descriptors = [d.astype(np.float32) for d in walk]
    descriptors[7] = np.zeros((0, 128), np.float32)
    found = features.select_pairs(descriptors, 4, 0)
    assert found == features.select_pairs(descriptors, 4, 0)
    assert all(i < j for i, j in found)
    assert {(i, i + 1) for i in range(59)} <= set(found)
    again = {(k, k + 20) for k in range(40) if k != 7}
    assert len(again & set(found)) > 0.9 * len(again)


def test_the_largest_model_wins_whatever_its_order() -> None:
    attempts = [
        Attempt("incremental", 5, 900, 0.3, "small"),
        Attempt("incremental", 30, 500, 0.9, "large"),
        Attempt("global", 30, 400, 0.2, "sparser"),
        Attempt("global", 0, 0, 0.0, None),
    ]
    found = best(attempts)
    assert found is not None and found.reconstruction == "large"
    assert best(attempts[3:]) is None


def test_the_lens_model_grows_with_the_photos() -> None:
    assert [features.camera_model("auto", n) for n in (3, 10, 40)] == ["SIMPLE_RADIAL", "RADIAL", "OPENCV"]
    assert features.camera_model("RADIAL", 3) == "RADIAL"


def test_regions_are_complete_or_refused() -> None:
    centre, half = Region(minimum=(0, 0, 0), maximum=(2, 4, 2)).cube
    np.testing.assert_allclose(centre, [1, 2, 1])
    assert half == 2.0
    wrong: list[dict[str, Any]] = [
        {},
        {"centre": (0, 0, 0)},
        {"centre": (0, 0, 0), "half_size": 1, "minimum": (0, 0, 0)},
        {"minimum": (1, 0, 0), "maximum": (0, 1, 1)},
    ]
    for values in wrong:
        with pytest.raises(ValidationError):
            Region.model_validate(values)


@pytest.mark.parametrize("name", ["colmap", "known"])
def test_methods_import_light_and_resolve_their_presets(name: str) -> None:
    code = f"import sys, tasks.pose.methods.{name}, tasks.pose.task; assert 'pycolmap' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], timeout=60)
    module = registry.method(Stage.POSE, name)
    seconds = [
        module.estimate(registry.effective_options(Stage.POSE, name, preset, {}), 40, 2.0).seconds
        for preset in ("preview", "standard", "high")
    ]
    assert seconds == sorted(seconds)
