"""What a file of a capture is, by its name: the one place that knows photos, videos and archives, and what is neither.

Whoever looks at a capture asks here: `init`, the planner, ingest, places of captures, listings of buckets.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from enum import StrEnum
from pathlib import PurePath, PurePosixPath

from models.raw_format import can_develop, raw_format

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif"}
)
RAW_SUFFIXES = frozenset({".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv"}
)
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".tbz2", ".txz"})
"""Archives that are read, besides `.tar.gz`, `.tar.bz2` and `.tar.xz`."""
PACKED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".lz4", ".cab", ".iso", ".jar"})
"""Archives that are refused by name."""
CAMERA_SUFFIXES = (".json", ".txt", ".bin", ".xml", ".csv")
"""Files of known poses, in the folder where they lie."""
_SIDECAR_SUFFIXES = frozenset(
    f".{suffix}"
    for group in (
        ("aae", "xmp", "thm", "pp3", "dop", "gpx", "kml", "srt", "lrv"),
        ("json", "xml", "txt", "md", "csv", "tsv", "html", "htm", "yaml", "yml", "pdf"),
        ("ini", "db", "log", "lnk", "url"),
    )
    for suffix in group
)
_UNFINISHED_SUFFIXES = frozenset({".part", ".partial", ".crdownload", ".filepart", ".tmp", ".download"})
_PAPERS = frozenset({"license", "licence", "readme", "copying", "notice", "credits", "desktop.ini", "icon\r"})
SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "@recycle"}
)
MASK_FOLDERS = frozenset({"mask", "masks"})
"""Below a folder of photos they hold masks and never photos."""


class Kind(StrEnum):
    """What a file is."""

    PHOTO = "photo"
    RAW = "raw photo"
    VIDEO = "video"
    ARCHIVE = "archive"
    PACKED = "archive of a kind that is not read"
    SIDECAR = "sidecar"
    """Metadata or a paper beside photos: passed over, no word about each."""
    SYSTEM = "system file"
    """Hidden, or of the operating system or a NAS: passed over, no word about each."""
    UNFINISHED = "unfinished transfer"
    OTHER = "other file"


NOISE = frozenset({Kind.SIDECAR, Kind.SYSTEM})
"""Passed over and told of in one line."""


def kind_of(path: str | PurePath) -> Kind:
    """What the file at a '/'-separated path is; a folder above it may make it a system file.

    >>> kind_of("ring1/IMG_1.HIF"), kind_of("@eaDir/IMG_1.jpg"), kind_of("a.tar.gz"), kind_of("_DSC0001.JPG").value
    (<Kind.PHOTO: 'photo'>, <Kind.SYSTEM: 'system file'>, <Kind.ARCHIVE: 'archive'>, 'photo')
    """
    pure = PurePosixPath(str(path).casefold())
    if any(part.startswith(".") or part in SYSTEM_FOLDERS for part in pure.parts if part not in (".", "/")):
        return Kind.SYSTEM
    suffix = pure.suffix
    if pure.name in _PAPERS or suffix in _SIDECAR_SUFFIXES:
        return Kind.SIDECAR
    if suffix in ARCHIVE_SUFFIXES or pure.name.endswith((".tar.gz", ".tar.bz2", ".tar.xz")):
        return Kind.ARCHIVE
    for suffixes, kind in (
        (PHOTO_SUFFIXES, Kind.PHOTO),
        (RAW_SUFFIXES, Kind.RAW),
        (VIDEO_SUFFIXES, Kind.VIDEO),
        (PACKED_SUFFIXES, Kind.PACKED),
        (_UNFINISHED_SUFFIXES, Kind.UNFINISHED),
    ):
        if suffix in suffixes:
            return kind
    return Kind.OTHER


def is_photo(name: str | PurePath) -> bool:
    """Whether a file's name is that of a photo."""
    return PurePath(name).suffix.lower() in PHOTO_SUFFIXES


def developed_beside(paths: Iterable[str]) -> dict[str, str]:
    """The raw photos beside which the same folder holds a developed picture of the same stem, and that picture.

    Cameras write both of one exposure.

    >>> developed_beside(["a/IMG_1.CR2", "a/img_1.jpg", "b/IMG_1.JPG", "a/IMG_2.CR2"])
    {'a/IMG_1.CR2': 'a/img_1.jpg'}
    """
    pictures: dict[str, str] = {}
    raws = []
    for path in sorted(paths):
        kind = kind_of(path)
        if kind is Kind.PHOTO:
            pictures.setdefault(_without_suffix(path), path)
        elif kind is Kind.RAW:
            raws.append(path)
    return {path: pictures[_without_suffix(path)] for path in raws if _without_suffix(path) in pictures}


def _without_suffix(path: str) -> str:
    pure = PurePosixPath(path)
    return str(pure.parent / pure.stem.casefold())


def count_photos(paths: Iterable[str]) -> int:
    """How many photos there are by their names: a raw file and its developed picture are one; raw files count where
    their reader is installed."""
    names = list(paths)
    raws = {path for path in names if kind_of(path) is Kind.RAW} - set(developed_beside(names))
    return sum(is_photo(path) for path in names) + (len(raws) if can_develop() else 0)


def is_archive(name: str | PurePath) -> bool:
    """Whether a file's name is that of an archive that is read."""
    return kind_of(PurePath(name).name) is Kind.ARCHIVE


_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xff\xd8\xff", "a JPEG photo"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"II*\x00", "a TIFF or raw photo"),
    (b"MM\x00*", "a TIFF or raw photo"),
    (b"%PDF", "a PDF"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)


HEAD = 4096
"""First bytes of a file that tell most surely what it is."""


def what_is(head: bytes) -> str:
    """What a file is by its first bytes, for messages; `HEAD` of them tell raw photos from other TIFF files.

    >>> what_is(b"7z\\xbc\\xaf\\x27\\x1c..."), what_is(b""), what_is(b"hello"), what_is(b"IIRO....")
    ('a 7z archive', 'an empty file', 'a file of an unknown kind', 'a raw photo (ORF of Olympus)')
    """
    if not head:
        return "an empty file"
    if raw := raw_format(io.BytesIO(head)):
        return f"a raw photo ({raw})"
    if head[4:8] == b"ftyp":
        return "an HEIC photo or a video"
    return next((words for start, words in _SIGNATURES if head.startswith(start)), "a file of an unknown kind")
