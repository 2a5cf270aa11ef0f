"""What installed packages add: entry points, read from disk once."""

from __future__ import annotations

import importlib.metadata
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path


def entry_points(group: str, name: str | None = None) -> tuple[EntryPoint, ...]:
    """The entry points of a group, or those of one name in it.

    `importlib.metadata` reads the metadata of every installed distribution at each call, about 20 ms; planning asks
    some eighty times an asset. Here they are read again only when a folder that Python imports from has changed.
    """
    found = _read(group, _folders())
    return found if name is None else tuple(entry for entry in found if entry.name == name)


@lru_cache(maxsize=256)
def _read(group: str, folders: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))


def _folders() -> tuple[tuple[str, int], ...]:
    """Python's search path, each with the time of its last change."""
    return tuple((folder, _changed(folder)) for folder in sys.path)


def _changed(folder: str) -> int:
    try:
        return Path(folder or ".").stat().st_mtime_ns
    except OSError:
        return 0
