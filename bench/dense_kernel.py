"""The kernel of stereo against its own inner loop, for `dense.py`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt

from bench.dense_capture import Capture, Float32Array, Row
from bench.line import ROOT
from models.camera import Camera
from tasks.dense.options import DenseOptions
from tasks.stereo import kernel, views

PAIR_TURNS = 6
"""Timings of the pairs for one of the kernel, which takes that much longer."""
LEAST_TIMED = 100_000
"""Pixels whose pairs are timed; taken several times where there are fewer."""
CSRC = ROOT / "tasks" / "stereo" / "csrc"

COUNTED = """
#include "patch.h"
namespace stereo {
static int64_t pairs = 0, scored = 0;
inline float counted_cost(const Patch& patch, const Window& window, const Source& source, const float* h, float x,
                          float y, float min_variance) {
  const float c[3] = {h[0] * x + h[1] * y + h[2], h[3] * x + h[4] * y + h[5], h[6] * x + h[7] * y + h[8]};
  ++pairs;
  scored += window_inside(h, c, source.width, source.height);
  return patch_cost(patch, window, source, h, x, y, min_variance);
}
}
#define patch_cost counted_cost
#include "patchmatch.cpp"
EXPORT void counts(int64_t* found) {
  found[0] = stereo::pairs, found[1] = stereo::scored;
  stereo::pairs = stereo::scored = 0;
}
"""
"""The kernel with a counter that reading sets to zero; for one thread.

`scored` leaves out the pairs that end before the inner loop.
"""


def counting_library(folder: Path) -> ctypes.CDLL:
    """The kernel with a counter. Raises RuntimeError where the compiler is missing or fails."""
    source, library = folder / "counted.cpp", folder / "counted.so"
    source.write_text(COUNTED)
    flags = [
        "-std=c++17",
        "-O3",
        "-march=native",
        "-fopenmp",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-shared",
        "-fPIC",
    ]
    command = [os.environ.get("CXX", "g++"), *flags, f"-I{CSRC}", str(source), "-o", str(library)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"expected {command[0]} to build the counting kernel, found {error}") from error
    return ctypes.CDLL(str(library))


def least_cpu(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Least CPU seconds of each work; they take turns, so that other work on the machine meets all of them."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, seconds in zip(works, found, strict=True):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
    return [min(each) for each in found]


def kernel_row(capture: Capture, edge_px: int, repeats: int, folder: Path) -> Row:
    """The kernel's CPU time for one photo from random planes, and what the inner loop alone would take; one thread.

    The inner loop is timed by `patch_costs` at the planes found, in the order of the pixels, as the kernel meets them.
    The time with one source is subtracted from that with all: what is left is pairs alone, without the patches of the
    reference.
    """
    try:
        counting = counting_library(folder)
    except RuntimeError as error:
        return {"reason": str(error)}
    k = int(capture.seen.sum(1).argmax())
    chosen = views.choose_sources(capture.images, capture.xyz, capture.seen, DenseOptions().views)[k]
    photo, depths = capture.photo(k, edge_px, True), capture.depths(k)
    if len(chosen) < 2:
        return {"reason": f"expected a photo with two sources, found {len(chosen)}"}
    level, world = photo.levels[0], np.array(photo.c2w)
    others = [capture.photo(j, edge_px, True) for j in chosen]
    sources = [kernel.Source(other.levels[0], other.w2c @ world) for other in others]
    search = kernel.Search(depths.least, depths.most, DenseOptions().iterations, seed=1)
    shape = (level.camera.height, level.camera.width)
    depth, normal = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)

    def patchmatch() -> None:
        depth[:], normal[:] = 0, 0
        kernel.patchmatch(level, sources, search, depth, normal)

    counts = (ctypes.c_int64 * 2)()
    # a library that this process opened before goes on counting
    counting.counts(counts)
    with mock.patch.object(kernel, "require_library", return_value=counting):
        patchmatch()
    counting.counts(counts)
    pixels, planes = found_planes(level.camera, depth, normal)
    costs = kernel.patch_costs(level, sources, search, pixels, planes)
    whole = (costs < kernel.WORST_COST).all(1)
    pixels, planes = np.ascontiguousarray(pixels[whole]), np.ascontiguousarray(planes[whole])
    if len(pixels) == 0:
        return {"reason": "expected depth where all sources can be compared, found none"}
    # few pixels are over too soon for the clock
    times = -(-LEAST_TIMED // len(pixels))
    pixels, planes = np.tile(pixels, (times, 1)), np.tile(planes, (times, 1))

    def pairs(count: int) -> Callable[[], object]:
        return lambda: kernel.patch_costs(level, sources[:count], search, pixels, planes)

    all_pairs, one_pair = pairs(len(sources)), pairs(1)
    works = [patchmatch, *(work for _ in range(PAIR_TURNS) for work in (all_pairs, one_pair))]
    found = least_cpu(works, repeats)
    seconds, several, one = found[0], min(found[1::2]), min(found[2::2])
    pair_ns = 1e9 * (several - one) / (len(pixels) * (len(sources) - 1))
    masked = shape[0] * shape[1] if level.mask is None else int(level.mask.sum())
    return {
        "of_limit": round(counts[1] * pair_ns * 1e-9 / seconds, 4),
        "pairs": counts[0],
        "scored_pairs": counts[1],
        "cpu_seconds": round(seconds, 3),
        "pair_ns": round(pair_ns, 2),
        "pair_ns_with_reference": round(1e9 * several / (len(pixels) * len(sources)), 2),
        "timed_pixels": len(pixels),
        "masked_pixels": masked,
        "sources": len(sources),
        "iterations": search.iterations,
        "cpu_seconds_per_megapixel": round(1e6 * seconds / masked, 2),
    }


def found_planes(
    camera: Camera, depth: Float32Array, normal: Float32Array
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Pixels [N, 2] (column, row) with depth, row by row, and their planes [N, 4] in camera axes."""
    row, column = np.nonzero(depth)
    x, y = (column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy
    points = np.stack([x, y, np.ones(len(x))], 1) * depth[row, column][:, None]
    n = normal[row, column]
    planes = np.concatenate([n, -(n * points).sum(1, keepdims=True)], 1).astype(np.float32)
    return np.stack([column, row], 1).astype(np.int32), planes
