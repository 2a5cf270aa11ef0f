"""One file of a source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, not yet read."""

    path: str
    """Where it lies in the source, '/'-separated."""
    fetch: Callable[[Path], Path]
    """Gives a local file with the content: the source's own, or the given path after writing to it."""
    sha256: str | None = None
    """What the content must hash to, where the reference to the source says so."""
    note: str = ""
    """What people are told about the source as a whole; its first file carries it."""
