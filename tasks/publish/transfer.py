"""Send files to a target, several at a time, and read back what it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from models.store import Store

AT_ONCE = 16
"""Requests wait for the server most of the time; large files go up in parts of their own as well."""


class Upload(NamedTuple):
    """One file to send."""

    key: str
    path: Path
    sha256: str


def send(store: Store, uploads: Sequence[Upload], check: Callable[[], None] = lambda: None) -> None:
    """Write files under their keys.

    Args:
        check: called before each file; may raise to stop.
    """

    def one(upload: Upload) -> None:
        check()
        store.put_file(*upload)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="send") as pool:
        list(pool.map(one, uploads))


def stored_digests(store: Store, keys: Sequence[str], check: Callable[[], None] = lambda: None) -> list[str]:
    """The sha256 of what a target holds under these keys, read back: no server is trusted to have checked it."""

    def one(key: str) -> str:
        check()
        return store.sha256(key)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read-back") as pool:
        return list(pool.map(one, keys))
