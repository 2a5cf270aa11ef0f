"""Send files to a target, several at a time, and read back what it holds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.digest import sha256_file
from models.store import Store

AT_ONCE = 16
"""Requests wait for the server most of the time; large files go up in parts of their own as well."""


def send(store: Store, files: Sequence[tuple[str, Path]], check: Callable[[], None] = lambda: None) -> None:
    """Write files under their keys.

    Args:
        check: called before each file; may raise to stop.
    """

    def one(each: tuple[str, Path]) -> None:
        check()
        store.put_file(*each)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="send") as pool:
        list(pool.map(one, files))


def stored_digests(
    store: Store, keys: Sequence[str], scratch: Path, check: Callable[[], None] = lambda: None
) -> list[str]:
    """The sha256 of what a target holds under these keys, read back: no server is trusted to have checked it."""

    def one(key: str) -> str:
        check()
        path = scratch / f"readback-{uuid.uuid4().hex}"
        try:
            store.get_file(key, path)
            return sha256_file(path)
        finally:
            path.unlink(missing_ok=True)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read-back") as pool:
        return list(pool.map(one, keys))
