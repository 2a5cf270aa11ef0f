import doctest
import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.camera import PosedImage, apply_similarity_to_c2w, matrix4, transform_points
from models.errors import DigitizeError, ReasonCode
from tasks.quality.alignment import align, umeyama
from tasks.quality.metrics.colour import colour_corrected
from tasks.quality.metrics.psnr import psnr
from tasks.quality.metrics.ssim import ssim, ssim_map
from tests.tasks.quality.capture import ring

MODULES = (
    "metrics.psnr",
    "metrics.ssim",
    "metrics.chamfer",
    "metrics.colour",
    "metrics.fscore",
    "metrics.normal_consistency",
    "collect",
    "views",
    "charts",
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"tasks.quality.{name}"))
    assert tried > 0 and failed == 0


def test_a_figure_is_shown_as_its_doctest_says() -> None:
    failed, tried = doctest.testmod(importlib.import_module("tasks.publish.report"))
    assert tried > 0 and failed == 0


def pictures(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.random((40, 56, 3))
    return np.clip(target + rng.normal(0, 0.1, target.shape), 0, 1), target


def test_psnr_agrees_with_torchmetrics_and_skimage() -> None:
    from skimage.metrics import peak_signal_noise_ratio as theirs
    from torchmetrics.functional.image import peak_signal_noise_ratio

    p, t = pictures()
    ours = psnr(p, t)
    assert ours == pytest.approx(theirs(t, p, data_range=1.0), abs=1e-9)
    torched = peak_signal_noise_ratio(torch.from_numpy(p), torch.from_numpy(t), data_range=1.0)
    assert ours == pytest.approx(float(torched), abs=1e-5)


def test_one_colour_correction_takes_out_exposure_and_white_balance_and_nothing_else() -> None:
    p, t = pictures()
    cast = np.clip(t * [0.7, 0.8, 0.9] + [0.05, 0.02, 0.0], 0, 1)
    mask = np.ones(t.shape[:2], bool)
    assert np.abs(colour_corrected(cast, t, mask) - t).max() < 1e-9
    # a hole stays a hole: it is not fitted, and not corrected
    mask[:10] = False
    holed = np.where(mask[..., None], cast, 0.5)
    fixed = colour_corrected(holed, t, mask)
    assert np.abs(fixed[mask] - t[mask]).max() < 1e-9 and (fixed[~mask] == 0.5).all()
    # what is not affine stays: shuffled pixels are no better for it than their mean colour
    shuffled = np.random.default_rng(1).permutation(t.reshape(-1, 3)).reshape(t.shape)
    whole = np.ones(t.shape[:2], bool)
    spread = float(((t - t.mean((0, 1))) ** 2).mean())
    assert float(((colour_corrected(shuffled, t, whole) - t) ** 2).mean()) == pytest.approx(spread, rel=0.02)
    assert (colour_corrected(p[:4, :4], t[:4, :4], np.ones((4, 4), bool)) == p[:4, :4]).all()


def test_psnr_ignores_what_lies_outside_the_mask() -> None:
    p, t = pictures()
    mask = np.zeros(p.shape[:2], bool)
    mask[5:20, 7:30] = True
    inside = psnr(p[5:20, 7:30], t[5:20, 7:30])
    p[~mask] = 1.0
    assert psnr(p, t, mask) == pytest.approx(inside, abs=1e-12)


def test_psnr_of_equal_pictures_and_of_nothing() -> None:
    _, t = pictures()
    assert psnr(t, t) == math.inf
    assert math.isnan(psnr(t, t, np.zeros(t.shape[:2], bool)))
    with pytest.raises(ValueError, match="one shape"):
        psnr(t, t[:5])


def test_ssim_agrees_with_skimage_and_torchmetrics() -> None:
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure

    p, t = pictures()
    mean, full = structural_similarity(
        t, p, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    # windows that touch the border differ: theirs mirror the picture, ours keep to it
    inner = (slice(5, -5), slice(5, -5))
    ours = ssim_map(p, t)
    assert np.allclose(ours[inner], full.mean(-1)[inner], atol=1e-10)
    assert ours[inner].mean() == pytest.approx(mean, abs=1e-10)
    torched = structural_similarity_index_measure(
        torch.from_numpy(p).permute(2, 0, 1)[None], torch.from_numpy(t).permute(2, 0, 1)[None], data_range=1.0
    )
    # torchmetrics keeps windows at the border, mirrored, so that the mean agrees less closely
    assert ssim(p, t) == pytest.approx(float(torched), abs=0.01)


def test_ssim_never_looks_outside_the_mask() -> None:
    p, t = pictures()
    mask = np.zeros(p.shape[:2], bool)
    mask[10:30, 10:40] = True
    before = ssim(p, t, mask)
    p[~mask], t[~mask] = 0.0, 1.0
    assert ssim(p, t, mask) == pytest.approx(before, abs=1e-12)
    assert ssim(t, t, mask) == pytest.approx(1.0)
    assert math.isnan(ssim(p, t, np.zeros_like(mask)))


def similarity(angles: tuple[float, float, float], scale: float, shift: tuple[float, ...]) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    made = np.eye(4)
    made[:3, :3] = scale * Rotation.from_euler("xyz", angles).as_matrix()
    made[:3, 3] = shift
    return made


@settings(max_examples=50, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    scale=st.floats(0.01, 100),
    shift=st.tuples(*[st.floats(-50, 50)] * 3),
)
def test_umeyama_finds_any_similarity(
    angles: tuple[float, float, float], scale: float, shift: tuple[float, ...]
) -> None:
    truth = similarity(angles, scale, shift)
    points = np.random.default_rng(3).normal(size=(7, 3))
    assert np.allclose(umeyama(points, transform_points(truth, points)), truth, atol=1e-7 * max(1, scale))


def test_umeyama_never_mirrors() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    assert np.linalg.det(umeyama(points, points * [1, 1, -1])[:3, :3]) > 0


def test_alignment_pairs_by_name_and_measures_camera_errors() -> None:
    cameras = ring(12)
    truth = similarity((0.3, -0.2, 1.0), 0.4, (1, 2, 3))
    inverse = np.linalg.inv(truth)
    captured = tuple(
        image.model_copy(update={"c2w": matrix4(apply_similarity_to_c2w(inverse, image.c2w))})
        for image in reversed(cameras)
    )
    found = align(captured[:9], cameras)
    assert found.cameras == 9
    assert np.allclose(found.truth_from_capture, truth, atol=1e-9)
    assert found.scale == pytest.approx(0.4)
    assert found.centre_rms < 1e-9 and found.rotation_mean_deg < 1e-6


def on_a_line(count: int) -> tuple[PosedImage, ...]:
    images = ring(count)
    moved = []
    for k, image in enumerate(images):
        c2w = np.array(image.c2w)
        c2w[:3, 3] = (k, 0.0, 0.0)
        moved.append(image.model_copy(update={"c2w": matrix4(c2w)}))
    return tuple(moved)


@pytest.mark.parametrize(("captured", "found"), [(ring(2), "found 2"), (on_a_line(8), "points on a line")])
def test_alignment_needs_three_cameras_off_a_line(captured: tuple[PosedImage, ...], found: str) -> None:
    with pytest.raises(DigitizeError, match=found) as caught:
        align(captured, captured)
    assert caught.value.code is ReasonCode.TRUTH_INVALID
