"""How a machine's cores are used: several threads that each run whole, single-threaded operations.

Splitting each of thousands of small operations over the cores makes every one wait for the slowest core. Beside
other processes that was up to ten times slower here than two independent shards; alone it was no faster. It also makes
the bytes depend on the number of cores, which this does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Run torch's operations on one thread each, within this block and in threads started from it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
