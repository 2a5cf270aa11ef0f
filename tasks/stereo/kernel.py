"""The C++ kernel of PatchMatch stereo by ctypes.

The library is built when the package is (setup.py), for AVX-512 and AVX2; the best that this machine can run is loaded
at the first use. Results do not depend on the number of threads; those of two builds differ by rounding.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import FloatArray
from models.errors import DigitizeError, ReasonCode
from tasks.stereo.photo import Level

log = logging.getLogger(__name__)
VERSION = 2
"""Of the C interface."""
MOST_VIEWS = 8
BUILDS = {"avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"), "avx2": ("avx2", "fma"), "portable": ()}
"""What each build needs of the processor, best first."""
WORST_COST = 2.0
"""Of a patch that is not comparable."""


@dataclass(frozen=True)
class Source:
    """A photo that the reference is compared with."""

    level: Level
    source_from_reference: FloatArray
    """[4, 4] rigid: camera coordinates of the reference to those of this photo."""
    depth: npt.NDArray[np.float32] | None = None
    """[H, W] its depth so far, for geometric consistency."""


@dataclass(frozen=True)
class Search:
    """How one level of one photo is searched. Depths in world units."""

    depth_min: float
    depth_max: float
    iterations: int
    seed: int = 0
    threads: int = 1
    explore: bool = True
    """Whether each pixel also tries planes from far away and a random one in each iteration; for maps that start from
    nothing. Where planes have spread already, those of far pixels take a third of the time for little gain."""
    depth_step: float = 0.02
    """Random change of the depth in the first iteration, as a share of it; it halves with each iteration."""
    normal_step: float = 0.25
    """Random change of the normal in the first iteration."""
    geometric_weight: float = 0.0
    """Cost of each pixel of forward-backward error, up to 3."""
    prior_weight: float = 0.0
    """Cost of leaving the prior's depth where the patch has no texture."""
    prior_span: float = 0.02
    """Share of the depth at which that costs all it can."""
    colour_sigma: float = 30.0
    """Grey values at which a sample of a patch weighs 1 / e."""
    min_variance: float = 0.65
    """In squared grey values: patches below are not compared (1e-5 of 255^2)."""


class _Pinhole(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("fx", "fy", "cx", "cy")]


class _Settings(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_int32) for name in ("width", "height", "views", "iterations", "explore", "threads")),
        *((name, ctypes.c_float) for name in ("depth_min", "depth_max", "depth_step", "normal_step")),
        *((name, ctypes.c_float) for name in ("geometric_weight", "prior_weight", "prior_span")),
        *((name, ctypes.c_float) for name in ("colour_sigma", "min_variance")),
        ("k", _Pinhole),
    ]


class _Source(ctypes.Structure):
    _fields_ = [
        ("quads", ctypes.c_void_p),
        ("depth", ctypes.c_void_p),
        *((name, ctypes.c_float * count) for name, count in (("a", 9), ("b", 3), ("r", 9), ("t", 3))),
        ("k", _Pinhole),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
    ]


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())


def _open(build: str) -> ctypes.CDLL | None:
    """The library of one build, if it is there, current, and this machine can run it."""
    if not set(BUILDS[build]) <= _cpu_flags():
        return None
    for path in sorted(Path(__file__).parent.glob(f"_patchmatch_{build}*.*")):
        try:
            found = ctypes.CDLL(str(path))
        except OSError as error:
            log.warning("stereo kernel not loaded from %s: %s", path.name, error)
            continue
        if found.stereo_version() == VERSION:
            return found
    return None


@functools.cache
def library(build: str | None = None) -> ctypes.CDLL | None:
    """The library of a build, or of the best one (DIGITIZE_KERNELS names another); None where there is none."""
    if build is not None:
        return _open(build)
    wanted = os.environ.get("DIGITIZE_KERNELS")
    # the field kernels have more builds than this one: a name that only they know takes the best
    names = [wanted] if wanted in BUILDS else list(BUILDS)
    return next((opened for name in names if name is not None and (opened := _open(name))), None)


def require_library(build: str | None = None) -> ctypes.CDLL:
    """The library. Raises DigitizeError(missing_dependency) where there is none."""
    found = library(build)
    if found is None:
        message = f"expected the compiled stereo kernel, found none for this machine ({platform.machine()})"
        hint = "Install a C++17 compiler with OpenMP (g++) and install the package again: `pip install .` builds it."
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, hint)
    return found


def _address(array: npt.NDArray[Any] | None, dtype: type, shape: tuple[int, ...]) -> ctypes.c_void_p:
    if array is None:
        return ctypes.c_void_p(0)
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        found = f"{array.dtype} {array.shape}"
        raise ValueError(f"expected a contiguous array of {np.dtype(dtype)} {shape}, found {found}")
    return ctypes.c_void_p(array.ctypes.data)


def _shape(level: Level) -> tuple[int, int]:
    return level.camera.height, level.camera.width


def _index_matrix(level: Level) -> FloatArray:
    """[3, 3] intrinsics in array indices: the centre of pixel (0, 0) is (0, 0)."""
    k = level.camera.K
    k[:2, 2] -= 0.5
    return k


def _pinhole(level: Level) -> _Pinhole:
    camera = level.camera
    return _Pinhole(camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5)


def _floats(values: FloatArray) -> Any:
    flat = values.ravel().tolist()
    return (ctypes.c_float * len(flat))(*flat)


def _source(reference: Level, source: Source) -> _Source:
    k, inverse = _index_matrix(source.level), np.linalg.inv(_index_matrix(reference))
    r, t = source.source_from_reference[:3, :3], source.source_from_reference[:3, 3]
    shape = _shape(source.level)
    return _Source(
        _address(source.level.quads, np.uint32, shape),
        _address(source.depth, np.float32, shape),
        _floats(k @ r @ inverse),
        _floats(k @ t),
        _floats(r),
        _floats(t),
        _pinhole(source.level),
        shape[1],
        shape[0],
    )


def _settings(reference: Level, views: int, search: Search) -> _Settings:
    if not 1 <= views <= MOST_VIEWS:
        raise ValueError(f"expected 1 to {MOST_VIEWS} sources, found {views}")
    height, width = _shape(reference)
    return _Settings(
        seed=search.seed,
        width=width,
        height=height,
        views=views,
        iterations=search.iterations,
        explore=int(search.explore),
        threads=max(1, search.threads),
        depth_min=search.depth_min,
        depth_max=search.depth_max,
        depth_step=search.depth_step,
        normal_step=search.normal_step,
        geometric_weight=search.geometric_weight,
        prior_weight=search.prior_weight,
        prior_span=search.prior_span,
        colour_sigma=search.colour_sigma,
        min_variance=search.min_variance,
        k=_pinhole(reference),
    )


def patchmatch(
    reference: Level,
    sources: Sequence[Source],
    search: Search,
    depth: npt.NDArray[np.float32],
    normal: npt.NDArray[np.float32],
    prior: npt.NDArray[np.float32] | None = None,
    build: str | None = None,
) -> npt.NDArray[np.float32]:
    """Estimate a plane for each pixel.

    Args:
        depth: [H, W] in: first depth, 0 for a random plane; out: the result, 0 where nothing could be compared.
        normal: [H, W, 3] in and out, in camera axes.
        prior: [H, W] the depth to keep to where there is little texture, 0 where unknown.

    Returns:
        cost [H, W]: 1 - NCC in [0, 2], mean over the sources that each pixel uses.

    Raises:
        DigitizeError(missing_dependency): without a compiled kernel.
    """
    lib, shape = require_library(build), _shape(reference)
    settings = _settings(reference, len(sources), search)
    rows = (_Source * len(sources))(*(_source(reference, source) for source in sources))
    cost = np.empty(shape, np.float32)
    lib.patchmatch(
        ctypes.byref(settings),
        _address(reference.quads, np.uint32, shape),
        _address(reference.mask, np.uint8, shape),
        rows,
        _address(prior, np.float32, shape),
        _address(depth, np.float32, shape),
        _address(normal, np.float32, (*shape, 3)),
        _address(cost, np.float32, shape),
    )
    return cost


def patch_costs(
    reference: Level,
    sources: Sequence[Source],
    search: Search,
    pixels: npt.NDArray[np.int32],
    planes: npt.NDArray[np.float32],
    build: str | None = None,
) -> npt.NDArray[np.float32]:
    """[N, V] costs of planes [N, 4] (n, d with n . X + d = 0 in camera axes) at pixels [N, 2] (column, row)."""
    lib, shape = require_library(build), _shape(reference)
    settings = _settings(reference, len(sources), search)
    rows = (_Source * len(sources))(*(_source(reference, source) for source in sources))
    costs = np.empty((len(pixels), len(sources)), np.float32)
    lib.patch_costs(
        ctypes.byref(settings),
        _address(reference.quads, np.uint32, shape),
        _address(reference.mask, np.uint8, shape),
        rows,
        ctypes.c_int64(len(pixels)),
        _address(pixels, np.int32, (len(pixels), 2)),
        _address(planes, np.float32, (len(pixels), 4)),
        _address(costs, np.float32, costs.shape),
    )
    return costs
