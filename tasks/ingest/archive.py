"""Archives from strangers, zip and tar: refused as a whole where an entry is unsafe, unpacked under our own names."""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.errors import DigitizeError, ReasonCode
from models.media import HEAD, Kind, kind_of, what_is

MAX_RATIO = 200.0
"""Unpacked over packed size of one entry. Photos reach 1.1, uncompressed TIFF scans of plain backdrops 50."""
_SMALL_BYTES = 4 << 20
"""Entries up to this size may compress as well as they like."""
_ENCRYPTED = 0x1
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(ValueError, NotImplementedError, RuntimeError, OverflowError, IndexError, KeyError),
)
"""What the standard library's readers raise on damaged archives, besides OSError."""
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO})
"""Not the archive's fault."""
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
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            raise DigitizeError(
                ReasonCode.UNDECODABLE, f"expected a whole archive entry, found: {error}", path=self.path
            ) from error
        return target


class UnpackedEntry:
    """One file of a tar archive, unpacked already: such archives can only be read from their start to their end."""

    def __init__(self, path: str, file: Path) -> None:
        self.path = path
        self._file = file

    def extract(self, target: Path) -> Path:
        """Where the content lies: it may be asked for twice, and `target` stays unused."""
        return self._file


Entry = ArchiveEntry | UnpackedEntry


@contextmanager
def open_archive(path: Path, limits: ArchiveLimits, scratch: Path) -> Iterator[tuple[Entry, ...]]:
    """The files of an archive whose whole directory was found safe.

    Args:
        scratch: where a tar archive is unpacked, under names of our own.

    Raises DigitizeError(archive_unsafe) naming the entry, or DigitizeError(undecodable) when it is no archive.
    """
    if path.suffix.lower() != ".zip":
        yield tuple(_unpack_tar(path, limits, scratch))
        return
    try:
        archive = zipfile.ZipFile(path)
    except (*_DAMAGED, OSError) as error:
        raise _no_archive(path, "a zip archive", error) from error
    with archive:
        lock = threading.Lock()
        infos = archive.infolist()
        check_directory(infos, limits)
        yield tuple(ArchiveEntry(archive, info, lock) for info in infos if not info.is_dir())


def list_archive(path: Path) -> tuple[str, ...] | None:
    """The paths of an archive's files without unpacking it; None for those that must be read whole, or are damaged."""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                return tuple(info.filename for info in archive.infolist() if not info.is_dir())
        if path.suffix.lower() == ".tar":
            with tarfile.open(path, "r:") as tar:
                return tuple(member.name for member in tar if member.isreg())
    except (*_DAMAGED, OSError):
        pass  # whoever unpacks it says what is wrong
    return None


def _no_archive(path: Path, wanted: str, error: Exception) -> DigitizeError:
    with path.open("rb") as file:
        found = what_is(file.read(HEAD))
    hint = "Copy or download it again: it ends too early, or was changed."
    if found not in ("a zip archive", "a gzip file", "a bzip2 file", "an xz file"):
        hint = "Pack the photos as zip or tar; another name does not make another format."
    return DigitizeError(ReasonCode.UNDECODABLE, f"expected {wanted}, found {found}: {error}", hint, path=str(path))


def _unpack_tar(path: Path, limits: ArchiveLimits, scratch: Path) -> Iterator[UnpackedEntry]:
    """Unpack in one pass: what is compressed cannot be looked up, and its size is known when it is read."""
    left, number = limits.max_bytes, 0
    most = max(_SMALL_BYTES, int(MAX_RATIO * path.stat().st_size))
    try:
        with tarfile.open(path, "r|*") as archive:
            for number, member in enumerate(archive):
                if number >= limits.max_files:
                    raise _unsafe("", f"at most {limits.max_files} entries", "more")
                _check_path(member.name, member.name)
                if member.isdir():
                    continue
                if not member.isreg():
                    found = "a link" if member.issym() or member.islnk() else "a special file"
                    raise _unsafe(member.name, "plain files and folders", found)
                _check_nested(member.name)
                left -= member.size
                if left < 0 or limits.max_bytes - left > most:
                    raise _unsafe(member.name, "an archive of usual size", "more content than its size explains")
                source = archive.extractfile(member)
                assert source is not None
                target = scratch / f"{number:06d}"
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
                if target.stat().st_size != member.size:
                    raise tarfile.ReadError("unexpected end of data")
                yield UnpackedEntry(member.name, target)
    except (*_DAMAGED, OSError) as error:
        raise _no_archive(path, "a tar archive", error) from error


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
    _check_path(info.orig_filename.split("\0")[0], info.orig_filename)


def _check_path(entry: str, shown: str) -> None:
    name = entry.replace("\\", "/")
    drive = len(name) > 1 and name[1] == ":" and name[0].isalpha()
    if name.startswith("/") or drive:
        raise _unsafe(shown, "relative paths", "an absolute path")
    if ".." in PurePosixPath(name).parts:
        raise _unsafe(shown, "paths inside the archive", "a path that climbs out of it")


def _check_kind(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise _unsafe(info.filename, "plain entries", "an encrypted one")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        found = "a link" if kind == stat.S_IFLNK else "a special file"
        raise _unsafe(info.filename, "plain files and folders", found)
    _check_nested(info.filename)


def _check_nested(entry: str) -> None:
    if kind_of(PurePosixPath(entry).name) in (Kind.ARCHIVE, Kind.PACKED):
        raise _unsafe(entry, "photos", "an archive inside the archive")


def _unsafe(entry: str, expected: str, found: str) -> DigitizeError:
    where = f" in entry '{entry}'" if entry else ""
    return DigitizeError(ReasonCode.ARCHIVE_UNSAFE, f"expected {expected}, found {found}{where}", path=entry or None)
