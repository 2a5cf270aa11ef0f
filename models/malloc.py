"""What two kinds of processes want of glibc's allocator. Nothing happens where there is no glibc."""

from __future__ import annotations

import ctypes
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Of mallopt(3)."""


def keep_freed_memory() -> None:
    """Keep freed blocks: large activations are otherwise mapped and cleared anew in every operation.

    1.5 to 1.9 times faster training steps on a CPU.
    """
    _set({_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 << 20})


def give_back() -> None:
    """Return freed memory to the system: a driver's many threads free what others allocated, glibc keeps the holes, and
    a night of thousands of short stages grows with every one of them.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _set(options: dict[int, int]) -> None:
    mallopt = _function("mallopt")
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
