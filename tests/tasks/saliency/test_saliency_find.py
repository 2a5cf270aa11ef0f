"""Two passes around what stands out: with a network that is known, and with the real one on a plain picture."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt
import pytest

from models.weights import listed, package_file
from tasks.saliency import u2net
from tasks.saliency.find import find_in_box, find_object, object_box, undecided_share
from tasks.saliency.network import OnnxNetwork
from tasks.saliency.u2net import WEIGHTS, is_installed

needs_weights = pytest.mark.skipif(
    not is_installed() or importlib.util.find_spec("onnxruntime") is None,
    reason="the weights are not installed: make install",
)


def real_network(threads: int = 1) -> OnnxNetwork:
    weights = listed()[WEIGHTS]
    return OnnxNetwork(package_file(weights.package, weights.file, weights.sha256), threads)


def disc(width: int = 400, height: int = 300) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """A red disc with a rim on grey, and where it is."""
    v, u = np.mgrid[0:height, 0:width]
    far = np.hypot(u - 0.55 * width, v - 0.5 * height)
    picture = np.full((height, width, 3), 200, np.uint8)
    picture[far < 70] = (190, 40, 30)
    picture[far < 40] = (240, 200, 60)
    return picture, far < 70


def brightness(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A network that finds what is bright, at a tenth of the picture's size."""
    return np.asarray(picture[::10, ::10, 0] / 255.0, dtype=np.float32)


def test_the_second_pass_looks_at_the_first_one_s_object() -> None:
    seen: list[tuple[int, ...]] = []

    def network(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        seen.append(picture.shape)
        return brightness(picture)

    picture = np.zeros((300, 400, 3), np.uint8)
    picture[100:200, 150:250] = 255
    found = find_object(network, picture)
    assert seen == [(300, 400, 3), (120, 120, 3)]
    assert found.mask.shape == (300, 400) and found.mask.dtype == np.float32 and found.undecided == 0.0
    inside = found.mask >= 0.5
    assert inside[105:195, 155:245].all() and not inside[:90].any() and not inside[:, 262:].any()


def test_nothing_found_needs_no_second_pass() -> None:
    found = find_object(brightness, np.full((100, 100, 3), 100, np.uint8))
    assert (found.mask < 0.5).all() and found.undecided == 1.0


def test_boxes_hold_the_main_pieces_and_stay_in_the_photo() -> None:
    mask = np.zeros((40, 50))
    mask[10:30, 0:20] = 1.0
    mask[36:38, 45:47] = 1.0  # beside the object
    assert object_box(mask, (400, 500)) == (0, 80, 220, 320)
    assert object_box(mask, (40, 50), margin=0.0) == (0, 10, 20, 30)
    assert object_box(np.zeros((4, 4)), (40, 40)) is None


def test_a_box_bounds_what_is_found() -> None:
    picture = np.full((100, 100, 3), 255, np.uint8)
    mask = find_in_box(brightness, picture, (20, 30, 60, 80)).mask
    assert mask[30:80, 20:60].min() > 0.99 and mask.sum() == pytest.approx(40 * 50, rel=1e-3)


def test_the_undecided_lie_between_the_bounds() -> None:
    assert undecided_share(np.array([[0.0, 0.05, 0.5, 0.95]], np.float32)) == 0.25


@needs_weights
def test_the_network_finds_a_disc_and_repeats_itself() -> None:
    picture, truth = disc()
    one = find_object(real_network(), picture)
    mask = one.mask >= 0.5
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95 and one.undecided < 0.1
    np.testing.assert_array_equal(one.mask, find_object(real_network(), picture).mask)
    np.testing.assert_array_equal(one.mask, find_object(real_network(threads=2), picture).mask)


def test_weights_of_another_version_count_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(u2net.importlib.metadata, "version", lambda name: "0.0.1")
    is_installed.cache_clear()
    try:
        assert not is_installed()
    finally:
        monkeypatch.undo()
        is_installed.cache_clear()
