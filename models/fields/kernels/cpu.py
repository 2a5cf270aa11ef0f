"""The C++ kernels by ctypes: float32 on CPUs. The functions every backend has are described in `ops`.

The library is built when the package is (setup.py), for AVX2, AVX-512 and AVX-512 with AMX; the best that this machine
can run is loaded at the first use. `set_threads` says how many threads it uses; its results do not depend on that.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from models.fields.kernels.levels import Level

log = logging.getLogger(__name__)
VERSION = 5
"""Of the C interface."""
BUILDS = ("amx", "avx512", "avx2", "portable")
"""Best first."""
AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
NEEDS = {
    "amx": (*AVX512, "avx512_bf16", "amx_tile", "amx_bf16"),
    "avx512": AVX512,
    "avx2": ("avx2", "fma"),
    "portable": (),
}
Precision = Literal["half", "ieee"]
"""Of networks: `half` rounds to bfloat16 and sums in float32 where the machine multiplies matrices so (AMX)."""


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.split())


def _open(build: str) -> ctypes.CDLL | None:
    """The library of one build, if it is there, current, and this machine can run it."""
    if not set(NEEDS[build]) <= _cpu_flags():
        return None
    for path in sorted(Path(__file__).parent.glob(f"_cpu_{build}*.*")):
        try:
            found = ctypes.CDLL(str(path))
        except OSError as error:
            log.warning("compiled kernels not loaded from %s: %s", path.name, error)
            continue
        if found.digitize_version() == VERSION:
            found.set_threads(torch.get_num_threads())
            found.march.restype = ctypes.c_int64
            found.mlp_hidden_floats.restype = ctypes.c_int64
            found.limit_fma.restype = found.limit_gather.restype = ctypes.c_float
            return found
    return None


@functools.cache
def library(build: str | None = None) -> ctypes.CDLL | None:
    """The library of a build, or of the best one; None where there is none, with one warning.

    The environment variable DIGITIZE_KERNELS names a build to use instead of the best, to compare them.
    """
    if build is not None:
        return _open(build)
    wanted = os.environ.get("DIGITIZE_KERNELS")
    found = next((opened for name in BUILDS if wanted in (None, name) and (opened := _open(name))), None)
    if found is None:
        log.warning(
            "compiled CPU kernels not found (no C++ compiler when the package was installed, %s): training runs in "
            "plain torch, several times slower; install g++ and run `pip install` again",
            platform.machine(),
        )
    return found


def available() -> bool:
    """Whether this backend can be used here."""
    return library() is not None


def _lib() -> ctypes.CDLL:
    found = library()
    if found is None:
        raise RuntimeError("expected compiled CPU kernels, found none: see `available`")
    return found


def set_threads(count: int) -> int:
    """Use that many threads from now on; returns how many it were."""
    if not available():
        return count
    before: int = _lib().get_threads()
    _lib().set_threads(count)
    return before


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    """The address of a contiguous CPU tensor."""
    if tensor is None:
        return ctypes.c_void_p(0)
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ValueError(f"expected a contiguous CPU tensor, found strides {tensor.stride()} on {tensor.device}")
    return ctypes.c_void_p(tensor.data_ptr())


def _single(*tensors: Tensor | None) -> None:
    for tensor in tensors:
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(f"expected float32, found {tensor.dtype}")


_i64, _f32 = ctypes.c_int64, ctypes.c_float


@functools.lru_cache(maxsize=64)
def _level_rows(levels: tuple[Level, ...]) -> Tensor:
    return torch.tensor([[v.resolution, v.offset, v.size, int(v.dense)] for v in levels], dtype=torch.int32)


def _checked(code: int, features: int) -> None:
    if code:
        raise ValueError(f"expected 1, 2, 4 or 8 features an entry, found {features}")


def encode_forward(x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """[levels * F, N] features of points x [N, 3]."""
    _single(x, table)
    out = torch.empty(len(levels) * table.shape[1], len(x))
    rows = _level_rows(levels)
    code = _lib().encode_forward(_at(x), _at(table), _at(rows), len(levels), table.shape[1], _i64(len(x)), _at(out))
    _checked(code, table.shape[1])
    return out


def encode_backward(
    x: Tensor,
    table: Tensor,
    levels: tuple[Level, ...],
    d_out: Tensor,
    d_table: Tensor | None,
    touched: Tensor | None,
    want_dx: bool,
) -> Tensor | None:
    """Adds to d_table, marks touched; returns d_x [N, 3] if wanted."""
    _single(x, table, d_out, d_table)
    rows, features = _level_rows(levels), table.shape[1]
    sizes = (len(levels), features, _i64(len(x)))
    if d_table is not None:
        code = _lib().encode_backward_table(_at(x), _at(rows), *sizes, _at(d_out), _at(d_table), _at(touched))
        _checked(code, features)
    if not want_dx:
        return None
    d_x = torch.empty_like(x)
    _checked(_lib().encode_backward_position(_at(x), _at(table), _at(rows), *sizes, _at(d_out), _at(d_x)), features)
    return d_x


def _net(weights: Sequence[Tensor]) -> tuple[ctypes.Array[ctypes.c_int32], ctypes.Array[ctypes.c_void_p]]:
    _single(*weights)
    widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    addresses = [_at(weight).value for weight in weights]
    return (ctypes.c_int32 * len(widths))(*widths), (ctypes.c_void_p * len(weights))(*addresses)


def _half(precision: Precision) -> int:
    return int(precision == "half" and _lib().half_networks())


def mlp_forward(
    x: Tensor, weights: Sequence[Tensor], keep: bool, precision: Precision = "half"
) -> tuple[Tensor, Tensor | None]:
    """y [Co, N] of x [Ci, N], and what the backward pass wants to see again, if it is to be kept."""
    _single(x)
    widths, addresses = _net(weights)
    layers, count, half = len(weights), _i64(x.shape[1]), _half(precision)
    y = torch.empty(weights[-1].shape[0], x.shape[1])
    hidden = torch.empty(_lib().mlp_hidden_floats(layers, widths, count, half)) if keep else None
    _lib().mlp_forward(layers, widths, addresses, _at(x), count, _at(y), _at(hidden), half)
    return y, hidden


def mlp_backward(
    x: Tensor, weights: Sequence[Tensor], hidden: Tensor, d_y: Tensor, want_dx: bool, precision: Precision = "half"
) -> tuple[Tensor | None, list[Tensor]]:
    """d_x [Ci, N] if wanted, and the gradients of the weights; `hidden` was kept at the same precision."""
    _single(x, hidden, d_y)
    widths, addresses = _net(weights)
    d_x = torch.empty_like(x) if want_dx else None
    flat = torch.empty(sum(weight.numel() for weight in weights))
    sizes = (len(weights), widths, addresses)
    arrays = (_at(x), _at(hidden), _at(d_y), _i64(x.shape[1]), _at(d_x), _at(flat))
    _lib().mlp_backward(*sizes, *arrays, _half(precision))
    parts = torch.split(flat, [weight.numel() for weight in weights])
    return d_x, [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def march(
    rays_o: Tensor,
    rays_d: Tensor,
    t_in: Tensor,
    t_out: Tensor,
    jitter: Tensor,
    step: float,
    cells: Tensor | None,
    blocks: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Distances [N] of the samples in occupied cells, and how many each ray has [R] int64."""
    _single(rays_o, rays_d, t_in, t_out, jitter)
    counts = torch.empty(len(t_in), dtype=torch.int64)
    longest = float((t_out - t_in).nan_to_num(0.0).clamp(min=0.0).amax()) if len(t_in) else 0.0
    most = math.ceil(longest / step) + 1
    room = torch.empty(len(t_in) * most)
    total = _lib().march(
        *(_at(part) for part in (rays_o, rays_d, t_in, t_out, jitter)),
        _i64(len(t_in)),
        _f32(step),
        _at(cells),
        _at(blocks),
        1 if cells is None else cells.shape[0],
        1 if cells is None else cells.shape[1],
        _i64(most),
        _at(room),
        _at(counts),
    )
    return room[:total].clone(), counts


def visible_counts(density: Tensor, offsets: Tensor, step: float, threshold: float) -> Tensor:
    """[R] how many leading samples of each ray are seen through a transmittance above the threshold."""
    _single(density)
    counts = torch.empty(len(offsets) - 1, dtype=torch.int64)
    _lib().visible_counts(_at(density), _at(offsets), _i64(len(counts)), _f32(step), _f32(threshold), _at(counts))
    return counts


def composite_forward(
    density: Tensor, rgb: Tensor, t: Tensor, offsets: Tensor, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Light [R, 3], transmittance [R] and spread [R] of samples with density [N] and rgb [3, N]."""
    _single(density, rgb, t)
    rays = len(offsets) - 1
    light, through, spread = torch.empty(rays, 3), torch.empty(rays), torch.empty(rays)
    _lib().composite_forward(
        *(_at(part) for part in (density, rgb, t, offsets)),
        _i64(rays),
        _i64(len(density)),
        _f32(step),
        *(_at(part) for part in (light, through, spread)),
    )
    return light, through, spread


def composite_backward(
    density: Tensor,
    rgb: Tensor,
    t: Tensor,
    offsets: Tensor,
    step: float,
    d_light: Tensor,
    d_through: Tensor,
    d_spread: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gradients of density [N] and rgb [3, N]."""
    _single(density, rgb, t, d_light, d_through, d_spread)
    d_density, d_rgb = torch.empty_like(density), torch.empty_like(rgb)
    _lib().composite_backward(
        *(_at(part) for part in (density, rgb, t, offsets)),
        _i64(len(offsets) - 1),
        _i64(len(density)),
        _f32(step),
        *(_at(part) for part in (d_light, d_through, d_spread, d_density, d_rgb)),
    )
    return d_density, d_rgb


def look(
    x: Tensor, photo: Tensor, views: Tensor, starts: Tensor, picture: Tensor, want_slope: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Brightness [N], depth [N] and whether it is inside [N] of places [N, 3]; the brightness' slopes [N, 3]."""
    _single(x, views)
    value, depth = torch.empty(len(x)), torch.empty(len(x))
    inside, slope = torch.empty(len(x), dtype=torch.bool), torch.empty(len(x), 3) if want_slope else None
    _lib().look(
        *(_at(part) for part in (x, photo, views, starts, picture)),
        _i64(len(x)),
        *(_at(part) for part in (value, depth, inside, slope)),
    )
    return value, depth, inside, slope


def adam(
    param: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    gradient: Tensor,
    touched: Tensor | None,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    scale: float = 1.0,
    shadow: Tensor | None = None,
) -> None:
    """One step in place on float32 buffers whose length is a multiple of 16; leaves the gradient at zero."""
    _single(param, moment1, moment2, gradient)
    if param.numel() % 16:
        raise ValueError(f"expected a multiple of 16 numbers, found {param.numel()}")
    _lib().adam_update(
        *(_at(part) for part in (param, moment1, moment2, gradient, touched)),
        _i64(param.numel() // 16),
        *(_f32(value) for value in (rate, beta1, beta2, eps, scale)),
        step,
    )
    if shadow is not None:
        shadow.copy_(param)


def advise_large_pages(tensor: Tensor) -> None:
    """Ask for large pages below a tensor that is read at random."""
    if tensor.device.type == "cpu" and available():
        _lib().advise_large_pages(_at(tensor), _i64(tensor.numel() * tensor.element_size()))
