"""The compiled kernel against the plain definition, and what must not change its results."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from models.camera import Camera, matrix4
from models.errors import DigitizeError, ReasonCode
from tasks.stereo import kernel, reference
from tasks.stereo.kernel import Search, Source, patch_costs, patchmatch
from tasks.stereo.photo import Level, make_photo, pack_quads

CAMERA = Camera(width=90, height=70, fx=100.0, fy=104.0, cx=44.0, cy=36.5)
SEARCH = Search(2.0, 8.0, 3, seed=5)
needs_kernel = pytest.mark.skipif(kernel.library() is None, reason="the stereo kernel is not built here")


def level(seed: int, mask: np.ndarray | None = None) -> Level:
    noise = np.random.default_rng(seed).integers(0, 255, (24, 30), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((CAMERA.width, CAMERA.height), Image.Resampling.BICUBIC)
    return make_photo(picture, CAMERA, matrix4(np.eye(4)), mask, 1).levels[0]


def moved(angle: float, shift: float) -> np.ndarray:
    pose = np.eye(4)
    c, s = np.cos(angle), np.sin(angle)
    pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    pose[:3, 3] = [shift, 0.05, -0.02]
    return pose


def random_planes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.stack([rng.integers(0, CAMERA.width, count), rng.integers(0, CAMERA.height, count)], 1)
    normal = np.array([0.0, 0.0, -1.0]) + rng.uniform(-0.6, 0.6, (count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rays = np.concatenate([pixels + 0.5, np.ones((count, 1))], 1) @ np.linalg.inv(CAMERA.K).T
    depth = rng.uniform(3.0, 5.0, count)
    planes = np.concatenate([normal, -(depth * (normal * rays).sum(1))[:, None]], 1)
    return pixels.astype(np.int32), planes.astype(np.float32)


@needs_kernel
@pytest.mark.parametrize("build", list(kernel.BUILDS))
@pytest.mark.parametrize("masked", [False, True])
def test_costs_of_random_planes_are_those_of_the_definition(build: str, masked: bool) -> None:
    if kernel.library(build) is None:
        pytest.skip(f"no {build} build here")
    rng = np.random.default_rng(0)
    mask = rng.random((CAMERA.height, CAMERA.width)) < 0.7 if masked else None
    photo = level(1, mask)
    sources = [Source(level(1), moved(0.03, -0.1)), Source(level(2), moved(-0.05, 0.2))]
    pixels, planes = random_planes(300, rng)
    found = patch_costs(photo, sources, SEARCH, pixels, planes, build)
    expected = [
        [reference.patch_cost(photo, source, SEARCH, tuple(pixel), plane.astype(np.float64)) for source in sources]
        for pixel, plane in zip(pixels, planes, strict=True)
    ]
    assert 0.2 < (found < kernel.WORST_COST).mean() < 1.0
    assert np.abs(found - np.array(expected)).max() < 1e-4


@needs_kernel
def test_results_do_not_depend_on_threads_or_repetition() -> None:
    sources = [Source(level(1), moved(0.03, -0.1)), Source(level(2), moved(-0.05, 0.2))]

    def found(threads: int, seed: int) -> bytes:
        shape = (CAMERA.height, CAMERA.width)
        depth, normal = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)
        cost = patchmatch(level(1), sources, Search(2.0, 8.0, 3, seed=seed, threads=threads), depth, normal)
        return depth.tobytes() + normal.tobytes() + cost.tobytes()

    assert found(1, 5) == found(2, 5) == found(1, 5)
    assert found(1, 6) != found(1, 5)


@needs_kernel
def test_arguments_that_do_not_fit_are_refused() -> None:
    shape = (CAMERA.height, CAMERA.width)
    depth, normal = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)
    with pytest.raises(ValueError, match="1 to 8 sources, found 0"):
        patchmatch(level(1), [], SEARCH, depth, normal)
    with pytest.raises(ValueError, match="contiguous array of float32"):
        patchmatch(level(1), [Source(level(2), np.eye(4))], SEARCH, depth[:-1], normal)


def test_quads_hold_a_pixel_and_its_neighbours() -> None:
    quads = pack_quads(np.array([[1, 2], [3, 4]], np.uint8))
    assert quads[0, 0] == 1 | 2 << 8 | 3 << 16 | 4 << 24
    assert quads[1, 1] == 4 | 4 << 8 | 4 << 16 | 4 << 24


def test_without_a_kernel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "library", lambda build=None: None)
    with pytest.raises(DigitizeError, match="compiled stereo kernel") as caught:
        kernel.require_library()
    assert caught.value.code is ReasonCode.MISSING_DEPENDENCY and "g++" in caught.value.hint
