"""How a machine's cores are used: the compiled kernels on several threads, torch's small operations on one.

Splitting each of thousands of small operations over the cores makes every one wait for the slowest core, and sums that
are split depend on how. The kernels are few and large, and their results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.fields.kernels import cpu


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Within this block the kernels use that many threads; torch one, or all of them where there are no kernels."""
    torch_before, kernels_before = torch.get_num_threads(), cpu.set_threads(count)
    torch.set_num_threads(1 if cpu.available() else count)
    try:
        yield
    finally:
        torch.set_num_threads(torch_before)
        cpu.set_threads(kernels_before)
