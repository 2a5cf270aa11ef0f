"""The kernel for GPUs, on a CPU: against the plain definition and against the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.stereo import kernel, reference, torch_patch, torch_sweep
from tasks.stereo.estimate import DepthMap, StereoSettings, estimate, refine
from tasks.stereo.kernel import Search, Source
from tests.tasks.stereo.stereo_scene import Shots, shots
from tests.tasks.stereo.test_stereo_kernel import CAMERA, SEARCH, level, moved, needs_kernel, random_planes

SHAPE = (CAMERA.height, CAMERA.width)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many small operations: threads of a busy machine wait for each other."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.mark.parametrize("masked", [False, True])
def test_costs_of_random_planes_are_those_of_the_definition(masked: bool) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random(SHAPE) < 0.7 if masked else None
    photo = level(1, mask)
    sources = [Source(level(1), moved(0.03, -0.1)), Source(level(2), moved(-0.05, 0.2))]
    pixels, planes = random_planes(300, rng)
    picture = torch_patch.Picture.of(photo, DEVICE)
    inside = None if photo.mask is None else torch.from_numpy(photo.mask).to(DEVICE).reshape(-1) > 0
    x, y = torch.from_numpy(pixels.astype(np.int64)).to(DEVICE).T
    patches = torch_patch.make_patches(picture, inside, SEARCH.colour_sigma, x, y)
    for source in sources:
        view = torch_patch.SourceView.of(photo, source, DEVICE)
        rows = torch.from_numpy(planes).to(DEVICE)[:, None]
        costs = torch_patch.patch_costs(patches, picture.k, view, rows, x, y, SEARCH.min_variance)[:, 0]
        costs = torch.where(patches.variance >= SEARCH.min_variance, costs, kernel.WORST_COST)
        expected = [
            reference.patch_cost(photo, source, SEARCH, tuple(pixel), plane.astype(np.float64))
            for pixel, plane in zip(pixels, planes, strict=True)
        ]
        assert 0.2 < (costs < kernel.WORST_COST).float().mean() < 1.0
        assert np.abs(costs.cpu().numpy() - np.array(expected)).max() < 1e-4


@needs_kernel
@pytest.mark.parametrize("explore", [True, False])
def test_one_sweep_finds_the_planes_of_the_compiled_kernel(explore: bool) -> None:
    rng = np.random.default_rng(2)
    mask = rng.random(SHAPE) < 0.95
    photo, search = level(1, mask), Search(2.0, 8.0, 1, seed=5, explore=explore)
    moves = [(1, moved(0.03, -0.1)), (1, moved(-0.02, 0.2)), (2, moved(0, 0.1))]
    sources = [Source(level(number), move) for number, move in moves]
    first = np.where(rng.random(SHAPE) < 0.5, 4.0, 0.0).astype(np.float32)
    given: dict[str, object] = {}
    if not explore:
        search = replace(search, geometric_weight=0.2, prior_weight=0.2)
        sources = [replace(s, depth=rng.uniform(3, 5, SHAPE).astype(np.float32)) for s in sources]
        given["prior"] = rng.uniform(3, 5, SHAPE).astype(np.float32)
    maps = []
    for run in (kernel.patchmatch, lambda *a, **b: torch_sweep.patchmatch(*a, **b, device=DEVICE)):
        depth, normal = first.copy(), np.zeros((*SHAPE, 3), np.float32)
        normal[..., 2] = -1
        maps.append((depth, normal, run(photo, sources, search, depth, normal, **given)))
    (depth, normal, cost), (found, facing, theirs) = maps
    there = depth > 0
    assert np.array_equal(there, found > 0) and 0.5 < there.mean() < mask.mean() + 1e-6
    same = there & (np.abs(found - depth) < 1e-4 * depth) & (np.abs(facing - normal).max(2) < 1e-3)
    # rounding may choose between planes of nearly equal cost
    assert same.sum() > 0.98 * there.sum()
    assert (np.abs(theirs - cost)[same] < 1e-3).mean() > 0.98


def test_chunks_of_pixels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [Source(level(1), moved(0.03, -0.1)), Source(level(2), moved(-0.05, 0.2))]
    found = []
    for chunk in (1 << 15, 1000):
        monkeypatch.setattr(torch_sweep, "CHUNK", chunk)
        depth, normal = np.zeros(SHAPE, np.float32), np.zeros((*SHAPE, 3), np.float32)
        found.append((torch_sweep.patchmatch(level(1), sources, SEARCH, depth, normal, device=DEVICE), depth, normal))
    for one, other in zip(*found, strict=True):
        assert np.isclose(one, other, atol=1e-4).mean() > 0.99


@needs_kernel
def test_depth_of_a_body_is_as_right_as_the_compiled_kernel_finds_it() -> None:
    scene, k = shots("sphere"), 1
    # `cpu` alone names the compiled kernel
    devices = ("cpu", DEVICE if DEVICE != "cpu" else "cpu:0")
    shares = [right(scene, k, depth_map(scene, k, device)) for device in devices]
    assert shares[0] > 0.95 and abs(shares[1] - shares[0]) < 0.01


def depth_map(scene: Shots, k: int, device: str) -> DepthMap:
    """After the photometric pass and one geometric round against true depth."""
    settings, sources = StereoSettings(), [scene.photos[j] for j in scene.sources[k]]
    first = estimate(scene.photos[k], sources, settings, scene.ranges[k], seed=k, threads=2, device=device)
    truth = [scene.truth[j] for j in scene.sources[k]]
    others = [DepthMap(np.where(t.mask, t.depth, 0).astype(np.float32), first.normal, first.confidence) for t in truth]
    return refine(scene.photos[k], sources, settings, scene.ranges[k], first, others, seed=9, threads=2, device=device)


def right(scene: Shots, k: int, found: DepthMap) -> float:
    truth = scene.truth[k]
    off = np.abs(found.depth - truth.depth)[truth.mask] / scene.diagonal
    return float(((off < 0.01) & (found.depth[truth.mask] > 0)).mean())
