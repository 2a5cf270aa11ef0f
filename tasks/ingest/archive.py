"""Zip archives from strangers: refused as a whole before anything is unpacked, unpacked under our own names."""

from __future__ import annotations

import stat
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.errors import DigitizeError, ReasonCode

MAX_RATIO = 200.0
"""Unpacked over packed size of one entry. Photos reach 1.1, uncompressed TIFF scans of plain backdrops 50."""
_SMALL_BYTES = 4 << 20
"""Entries up to this size may compress as well as they like."""
_NESTED = frozenset(
    [
        ".zip",
        ".tar",
        ".gz",
        ".tgz",
        ".bz2",
        ".tbz2",
        ".xz",
        ".txz",
        ".zst",
        ".7z",
        ".rar",
        ".lz4",
        ".cab",
        ".iso",
        ".jar",
    ]
)
_ENCRYPTED = 0x1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold."""

    max_files: int
    max_bytes: int


class ArchiveEntry:
    """One file of a checked archive."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, lock: threading.Lock) -> None:
        self.path = info.filename
        self._archive, self._info, self._lock = archive, info, lock

    def extract(self, target: Path) -> Path:
        """Write the content to `target`, which the caller names; the entry's own name is never used as a path.

        Raises DigitizeError(undecodable) on damaged entries.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._lock, self._archive.open(self._info) as source, target.open("wb") as file:
                written = 0
                while chunk := source.read(_CHUNK):
                    written += len(chunk)
                    if written > self._info.file_size:
                        raise _unsafe(self.path, "the directory's size for each entry", "more content than it says")
                    file.write(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DigitizeError(
                ReasonCode.UNDECODABLE, f"expected a whole archive entry, found: {error}", path=self.path
            ) from error
        return target


@contextmanager
def open_archive(path: Path, limits: ArchiveLimits) -> Iterator[tuple[ArchiveEntry, ...]]:
    """The files of a zip archive whose whole directory was found safe.

    Raises DigitizeError(archive_unsafe) naming the entry, or DigitizeError(undecodable) when it is no zip archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise DigitizeError(
            ReasonCode.UNDECODABLE, f"expected a zip archive, found: {error}", path=str(path)
        ) from error
    with archive:
        lock = threading.Lock()
        infos = archive.infolist()
        check_directory(infos, limits)
        yield tuple(ArchiveEntry(archive, info, lock) for info in infos if not info.is_dir())


def check_directory(infos: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    """Raise DigitizeError(archive_unsafe) unless every entry is a plain file or folder below the archive's root."""
    if len(infos) > limits.max_files:
        raise _unsafe("", f"at most {limits.max_files} entries", f"{len(infos)}")
    total = 0
    for info in infos:
        _check_name(info)
        _check_kind(info)
        total += info.file_size
        if info.file_size > _SMALL_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
            ratio = info.file_size / max(info.compress_size, 1)
            raise _unsafe(info.filename, f"a compression of at most {MAX_RATIO:g} to 1", f"{ratio:.0f} to 1")
        if total > limits.max_bytes:
            raise _unsafe(
                info.filename, f"at most {limits.max_bytes / 1e9:g} GB unpacked", f"{total / 1e9:.3g} GB up to here"
            )


def _check_name(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename.split("\0")[0].replace("\\", "/")
    drive = len(name) > 1 and name[1] == ":" and name[0].isalpha()
    if name.startswith("/") or drive:
        raise _unsafe(info.orig_filename, "relative paths", "an absolute path")
    if ".." in PurePosixPath(name).parts:
        raise _unsafe(info.orig_filename, "paths inside the archive", "a path that climbs out of it")


def _check_kind(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise _unsafe(info.filename, "plain entries", "an encrypted one")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        found = "a link" if kind == stat.S_IFLNK else "a special file"
        raise _unsafe(info.filename, "plain files and folders", found)
    if PurePosixPath(info.filename).suffix.lower() in _NESTED:
        raise _unsafe(info.filename, "photos", "an archive inside the archive")


def _unsafe(entry: str, expected: str, found: str) -> DigitizeError:
    where = f" in entry '{entry}'" if entry else ""
    return DigitizeError(ReasonCode.ARCHIVE_UNSAFE, f"expected {expected}, found {found}{where}", path=entry or None)
