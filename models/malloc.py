"""What two kinds of processes want of glibc's allocator. Nothing happens where there is no glibc."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Of mallopt(3)."""


def keep_freed_memory() -> None:
    """Keep freed blocks: large activations are otherwise mapped and cleared anew in every operation.

    1.5 to 1.9 times faster training steps on a CPU.
    """
    _set({_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 << 20})


def share_arenas() -> None:
    """Allocate from two arenas at most: many threads that each free others' blocks otherwise leave holes in arenas of
    their own, and a driver of thousands of short stages grows with every one of them.
    """
    _set({_ARENA_MAX: 2})


def _set(options: dict[int, int]) -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for option, value in options.items():
        mallopt(option, value)
