"""The depth map of one photo: PatchMatch from coarse to fine, then refined against the depth maps of its sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import FloatArray
from models.record import Record
from tasks.stereo import kernel
from tasks.stereo.kernel import WORST_COST, Search, Source
from tasks.stereo.maps import DepthMap, Float32Array
from tasks.stereo.photo import Level, Photo
from tasks.stereo.planar import Planes

NEAR_PLANE = 0.004
"""Share of the depth within which a pixel keeps to its plane: it needs no match of its own."""
PLANE_SPAN = 0.02
"""Share of the depth at which leaving a plane costs all it can."""
PLANE_CONFIDENCE = 0.1
"""Of such a pixel, at least."""


class StereoSettings(Record):
    """How a depth map is estimated."""

    iterations: int = 4
    """Sweeps of the coarsest level; each finer level takes one less, two at least."""
    geometric_iterations: int = 1
    """Sweeps of a geometric round."""
    geometric_weight: float = 0.2
    """Cost of a pixel of forward-backward error (ACMM)."""
    planar_weight: float = 1.0
    """Cost of leaving the plane between sure pixels where a patch has no texture."""
    prior_weight: float = 0.2
    """Cost of leaving the coarser level's depth where a patch has no texture."""
    worst_cost: float = 0.7
    """1 - NCC above which a pixel has no depth."""
    colour_sigma: float = 30.0
    """Grey values at which a sample of a patch weighs 1 / e."""


@dataclass(frozen=True)
class DepthRange:
    """Depths to search, along z in world units."""

    least: float
    most: float


def estimate(
    reference: Photo,
    sources: Sequence[Photo],
    settings: StereoSettings,
    depths: DepthRange,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
) -> DepthMap:
    """Photometric depth of a photo, coarse to fine.

    Each level starts from the planes of the coarser one, after Xu and Tao 2019 (ACMM), with smaller random changes.

    Args:
        reference: pixels outside its mask are skipped.
        sources: 1 to 8 photos that see the same surface.
        seed: of the random numbers; equal seeds give equal results for any number of threads.
        device: `cpu` for the compiled kernel, another of torch's for the one in `torch_sweep`.

    Raises:
        DigitizeError(missing_dependency): without a compiled kernel.
    """
    depth: Float32Array | None = None
    normal: Float32Array | None = None
    cost: Float32Array | None = None
    count = len(reference.levels)
    for step, k in enumerate(reversed(range(count))):
        level = reference.levels[k]
        shape = (level.camera.height, level.camera.width)
        prior = None
        if depth is None or normal is None:
            depth, normal = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)
        else:
            normal = np.stack([_resized(normal[..., i], shape) for i in range(3)], 2)
            depth = prior = _resized(depth, shape)
            depth = depth.copy()
        search = Search(
            depths.least,
            depths.most,
            max(2, settings.iterations - step),
            seed=seed * 16 + k,
            threads=threads,
            explore=step == 0,
            depth_step=0.04 / 2**step,
            normal_step=0.5 / 2**step,
            prior_weight=settings.prior_weight,
            colour_sigma=settings.colour_sigma,
        )
        cost = _patchmatch(device, level, _sources(reference, sources, k, None), search, depth, normal, prior)
    assert depth is not None and normal is not None and cost is not None
    return _judged(depth, normal, cost, settings)


def refine(
    reference: Photo,
    sources: Sequence[Photo],
    settings: StereoSettings,
    depths: DepthRange,
    found: DepthMap,
    others: Sequence[DepthMap],
    seed: int = 0,
    threads: int = 1,
    planes: Planes | None = None,
    device: str = "cpu",
) -> DepthMap:
    """A depth map after a geometric round: planes are also judged by how well they meet the sources' depth maps.

    Args:
        found: the reference's map so far.
        others: the sources' maps, at their finest level.
        planes: where the reference is plain; what leaves them has to match well.
    """
    search = Search(
        depths.least,
        depths.most,
        settings.geometric_iterations,
        seed=seed * 16 + 15,
        threads=threads,
        explore=False,
        depth_step=0.01,
        normal_step=0.1,
        geometric_weight=settings.geometric_weight,
        prior_weight=settings.planar_weight,
        prior_span=PLANE_SPAN,
        colour_sigma=settings.colour_sigma,
    )
    depth, normal = found.depth.copy(), found.normal.copy()
    rows = _sources(reference, sources, 0, [np.ascontiguousarray(each.depth) for each in others])
    if planes is None:
        cost = _patchmatch(device, reference.levels[0], rows, search, depth, normal, None)
        return _judged(depth, normal, cost, settings)
    flat = planes.depth > 0
    start = flat & ~planes.sure
    depth[start], normal[start] = planes.depth[start], planes.normal[start]
    cost = _patchmatch(device, reference.levels[0], rows, search, depth, normal, planes.depth)
    # a patch without any texture has no cost: its plane stands
    bare = flat & (depth == 0)
    depth[bare], normal[bare], cost[bare] = planes.depth[bare], planes.normal[bare], WORST_COST
    near = flat & (np.abs(depth - planes.depth) < NEAR_PLANE * planes.depth)
    cost[near] = np.minimum(cost[near], min(settings.worst_cost, 1.0 - PLANE_CONFIDENCE))
    return _judged(depth, normal, cost, settings)


def _patchmatch(
    device: str,
    level: Level,
    sources: Sequence[Source],
    search: Search,
    depth: Float32Array,
    normal: Float32Array,
    prior: Float32Array | None,
) -> Float32Array:
    if device == "cpu":
        return kernel.patchmatch(level, sources, search, depth, normal, prior)
    from tasks.stereo import torch_sweep

    return torch_sweep.patchmatch(level, sources, search, depth, normal, prior, device)


def _sources(reference: Photo, sources: Sequence[Photo], k: int, depths: Sequence[Float32Array] | None) -> list[Source]:
    world: FloatArray = np.array(reference.c2w)
    levels: list[Level] = [photo.levels[min(k, len(photo.levels) - 1)] for photo in sources]
    made = [Source(level, photo.w2c @ world) for level, photo in zip(levels, sources, strict=True)]
    return made if depths is None else [replace(s, depth=d) for s, d in zip(made, depths, strict=True)]


def _resized(values: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """The nearest of the coarser level: means would put depth between a thing and what lies behind it."""
    picture = Image.fromarray(np.ascontiguousarray(values))
    return np.array(picture.resize((shape[1], shape[0]), Image.Resampling.NEAREST), dtype=np.float32)


def _judged(depth: Float32Array, normal: Float32Array, cost: Float32Array, settings: StereoSettings) -> DepthMap:
    keep: npt.NDArray[np.bool_] = (depth > 0) & (cost <= settings.worst_cost)
    return DepthMap(depth, normal, np.clip(1.0 - cost, 0.0, 1.0).astype(np.float32)).where(keep)
