"""What lies in a folder or below a prefix, and what of it is passed over and why.

One walk for all who read captures: it follows links, never walks in circles, and leaves out what is no part of a
capture: hidden and system files, folders of masks, what digitize itself writes, pipes, links to nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.media import MASK_FOLDERS, NOISE, SYSTEM_FOLDERS, Kind, kind_of

_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Listed:
    """One file that is read."""

    path: str
    """Below the folder, '/'-separated; bytes of a name that are not UTF-8 stand as `\\\\xNN`."""
    kind: Kind
    local: Path | None = None
    """None in a bucket."""


@dataclass(frozen=True)
class Passed:
    """One file or folder that is not read."""

    path: str
    why: str
    noise: bool = False
    """Told of in one line with all that are."""


@dataclass(frozen=True)
class Listing:
    """All that lies at a place."""

    files: tuple[Listed, ...]
    passed: tuple[Passed, ...]

    def of_kinds(self, *kinds: Kind) -> tuple[Listed, ...]:
        """The files of these kinds."""
        return tuple(each for each in self.files if each.kind in kinds)


def list_folder(root: Path, excluded: Mapping[Path, str] | None = None) -> Listing:
    """The files below a folder, in the order of their names.

    Args:
        excluded: resolved paths that are no part of it -> what they are, for people.

    Raises OSError when the folder itself cannot be read.
    """
    walk = _Walk(root, excluded or {})
    walk.enter(root, "")
    return Listing(tuple(walk.files), tuple(walk.passed))


def list_keys(keys: Iterable[str]) -> Listing:
    """The same of a bucket's keys below a prefix."""
    files, passed = [], []
    for key in sorted(keys):
        parts = key.split("/")
        kind = kind_of(key)
        if not key or key.endswith("/"):
            passed.append(Passed(key, "the marker of a folder", noise=True))
        elif any(part.casefold() in MASK_FOLDERS for part in parts[:-1]):
            passed.append(Passed(key, _MASKS))
        elif kind in NOISE:
            passed.append(Passed(key, kind.value, noise=True))
        else:
            files.append(Listed(key, kind))
    return Listing(tuple(files), tuple(passed))


def is_own(folder: Path) -> str:
    """What a folder is that digitize writes: a store, a target, exported work; empty for all others."""
    if (folder / "work").is_dir() and (folder / "status").is_dir():
        return "a store of digitize"
    assets = folder / "assets"
    if assets.is_dir() and next(assets.glob("*/latest.json"), None) is not None:
        return "assets that digitize published"
    return ""


def summary(passed: Sequence[Passed], most: int = 20) -> list[str]:
    """What was passed over, for people: one line each, and one for all that are noise."""
    told = [each for each in passed if not each.noise]
    lines = [f"{each.path}: {each.why}" for each in told[:most]]
    if len(told) > most:
        lines.append(f"and {len(told) - most} more")
    if noise := len(passed) - len(told):
        lines.append(f"{noise} hidden, system or sidecar file{'s' if noise > 1 else ''}")
    return lines


_MASKS = "masks: name their folder under `masks:` to use them"


@dataclass
class _Walk:
    root: Path
    excluded: Mapping[Path, str]
    files: list[Listed] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def enter(self, folder: Path, below: str) -> None:
        status = folder.stat()
        self.seen.add((status.st_dev, status.st_ino))
        for path in sorted(_entries(folder), key=lambda each: each.name):
            name = f"{below}{readable(path.name)}"
            try:
                self._look(path, name)
            except OSError as error:
                self.passed.append(Passed(name, f"not readable: {error.strerror}"))

    def _look(self, path: Path, name: str) -> None:
        if path.is_symlink() and not path.exists():
            self.passed.append(Passed(name, f"a link to nothing: {readable(str(path.readlink()))}"))
            return
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            self._folder(path, name)
        elif stat.S_ISREG(mode):
            self._file(path, name)
        else:
            self.passed.append(Passed(name, next((what for is_it, what in _SPECIAL if is_it(mode)), "no file")))

    def _folder(self, path: Path, name: str) -> None:
        why = self.excluded.get(path.resolve(), "") or is_own(path)
        base = path.name.casefold()
        if base.startswith(".") or base in SYSTEM_FOLDERS:
            self.passed.append(Passed(f"{name}/", Kind.SYSTEM.value, noise=True))
        elif why:
            self.passed.append(Passed(f"{name}/", why))
        elif base in MASK_FOLDERS:
            self.passed.append(Passed(f"{name}/", _MASKS))
        else:
            status = path.stat()
            if (status.st_dev, status.st_ino) in self.seen:
                self.passed.append(Passed(f"{name}/", "a link to a folder that is read already"))
            else:
                self.enter(path, f"{name}/")

    def _file(self, path: Path, name: str) -> None:
        kind = kind_of(path.name)
        if why := self.excluded.get(path.resolve(), ""):
            self.passed.append(Passed(name, why))
        elif kind in NOISE:
            self.passed.append(Passed(name, kind.value, noise=True))
        else:
            self.files.append(Listed(name, kind, path))


def _entries(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from (folder / entry.name for entry in entries)


def readable(name: str) -> str:
    """A file's name as text that every encoding of Unicode can hold.

    >>> readable("M\\udcfcnze.jpg")
    'M\\\\xfcnze.jpg'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
