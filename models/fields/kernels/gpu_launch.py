"""How the Triton kernels are cut into programs."""

from __future__ import annotations

import functools

import torch
import triton

OPTIONS = {"enable_fp_fusion": True}
"""Of every launch. Whether products and sums may fuse is said because Triton's default changes between versions."""
INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether Triton runs kernels in its interpreter (TRITON_INTERPRET=1), on CPU tensors and without a GPU."""


def block(size: int, interpreted: int = 1024) -> int:
    """Elements of one program: `size` on a GPU; more in the interpreter, whose time goes by programs."""
    return interpreted if INTERPRETED else size


@functools.lru_cache
def resident_programs(device: torch.device) -> int:
    """Programs of a kernel that walks over its tiles: a few for each multiprocessor."""
    if INTERPRETED:
        return 2
    return 2 * int(torch.cuda.get_device_properties(device).multi_processor_count)
