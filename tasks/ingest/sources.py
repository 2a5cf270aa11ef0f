"""Where photos come from: a folder, a zip archive, a video, or an `s3://` prefix. All give one list of files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.errors import DigitizeError, ReasonCode
from models.media import PHOTO_SUFFIXES, VIDEO_SUFFIXES, is_archive, is_video
from models.results import ArtifactRef
from tasks.context import Context
from tasks.external import ETAG, changed, check
from tasks.ingest.archive import ArchiveLimits, open_archive
from tasks.ingest.video import VideoLimits, extract_frames

EXPECTED = "a folder, a zip archive, a video, or an s3:// prefix with JPEG, PNG, TIFF, WebP or HEIC photos"

_SIDECARS = frozenset(
    f".{suffix}"
    for group in (
        ("aae", "xmp", "thm", "pp3", "dop", "gpx", "kml", "srt"),
        ("json", "xml", "txt", "md", "csv", "tsv", "html", "htm", "yaml", "yml", "pdf"),
        ("ini", "db", "log"),
    )
    for suffix in group
)
_PAPERS = frozenset({"license", "licence", "readme", "copying", "notice", "credits", "desktop.ini"})
_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "#recycle", "$recycle.bin"})
_RAW = frozenset([".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw"])
_ARCHIVES = frozenset([".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"])


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, not yet read."""

    path: str
    """Where it lies in the source, '/'-separated."""
    fetch: Callable[[Path], Path]
    """Gives a local file with the content: the source's own, or the given path after writing to it."""
    sha256: str | None = None
    """What the content must hash to, where the reference to the source says so."""


@dataclass(frozen=True)
class SourceLimits:
    """Bounds on what a source may make this machine read or write."""

    archive: ArchiveLimits
    video: VideoLimits


@contextmanager
def open_source(context: Context, name: str, limits: SourceLimits) -> Iterator[tuple[SourceFile, ...]]:
    """The files of external input `name` in natural order, without hidden files, sidecars and papers.

    Raises DigitizeError(source_not_found, source_empty, unsupported_format or archive_unsafe).
    """
    ref = context.input(name)
    if ref.uri.startswith("s3://"):
        files = _bucket_files(context, ref)
        yield _in_order(files, ref.uri)
        return
    root = Path(ref.uri)
    if root.is_dir():
        yield _in_order(_folder_files(root, _hashes(ref), _other_folders(context, name)), ref.uri)
    elif not root.is_file():
        raise DigitizeError(
            ReasonCode.SOURCE_NOT_FOUND, f"expected {EXPECTED}, found nothing at this path", path=ref.uri
        )
    elif is_video(root):
        _check(root, ref)
        context.progress(0.0, f"choosing frames of {root.name}", {})
        frames = extract_frames(root, context.scratch / "frames", limits.video, context.check, context.threads)
        yield tuple(SourceFile(frame.name, _local(frame)) for frame in frames)
    elif is_archive(root):
        _check(root, ref)
        with open_archive(root, limits.archive) as entries:
            yield _in_order([SourceFile(entry.path, entry.extract) for entry in entries], ref.uri)
    else:
        raise DigitizeError(
            ReasonCode.UNSUPPORTED_FORMAT, f"expected {EXPECTED}, found a file of type '{root.suffix}'", path=ref.uri
        )


def refusal_of_type(path: str) -> str | None:
    """Why a file is refused by its type, or None for the types of photos."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in PHOTO_SUFFIXES:
        return None
    wanted = "expected JPEG, PNG, TIFF, WebP or HEIC"
    if suffix in VIDEO_SUFFIXES:
        return f"{wanted}, found a video: give the video file itself as the source"
    if suffix in _RAW:
        return f"{wanted}, found a raw file ({suffix}): develop it first"
    if suffix in _ARCHIVES:
        return f"{wanted}, found an archive: give the zip file itself as the source, or unpack it"
    return f"{wanted}, found a file of type '{suffix}'"


def unique_names(paths: tuple[str, ...]) -> tuple[str, ...]:
    """One name for each path: its base name, or the path joined by `_` where a base name occurs twice.

    Names are unique without regard to case, and free of separators and control characters.
    """
    cleaned = [_clean(path) for path in paths]
    bases = [path.rsplit("/", 1)[-1] for path in cleaned]
    folded = [base.casefold() for base in bases]
    names = [
        base if folded.count(key) == 1 else path.replace("/", "_")
        for path, base, key in zip(cleaned, bases, folded, strict=True)
    ]
    return _numbered(names)


def unique_stems(names: tuple[str, ...]) -> tuple[str, ...]:
    """One file stem of A-Z a-z 0-9 . _ - for each name: IMG_1.HEIC and IMG_1.jpg give IMG_1 and IMG_1-2."""
    stems = [re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(name).stem) for name in names]
    return _numbered([stem.lstrip(".") or "photo" for stem in stems])


def natural_key(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key that puts 2.jpg before 10.jpg; the text itself breaks ties."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text.casefold())
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts), text


def _numbered(names: list[str]) -> tuple[str, ...]:
    taken: set[str] = set()
    result = []
    for name in names:
        path, count, unique = PurePosixPath(name), 1, name
        while unique.casefold() in taken:
            count += 1
            unique = f"{path.stem}-{count}{path.suffix}"
        taken.add(unique.casefold())
        result.append(unique)
    return tuple(result)


def _clean(path: str) -> str:
    text = unicodedata.normalize("NFC", path.encode("utf-8", "replace").decode())
    return re.sub(r"[\x00-\x1f\x7f\\]", "_", text)


def _is_noise(path: str) -> bool:
    """Hidden and system files, sidecars and papers: left out without a word."""
    parts = PurePosixPath(path).parts
    if any(part.startswith(".") or part.casefold() in _SYSTEM_FOLDERS for part in parts):
        return True
    base = PurePosixPath(path.casefold())
    return base.suffix in _SIDECARS or base.name in _PAPERS


def _in_order(files: list[SourceFile], where: str) -> tuple[SourceFile, ...]:
    kept = sorted((file for file in files if not _is_noise(file.path)), key=lambda file: natural_key(file.path))
    if not kept:
        raise DigitizeError(ReasonCode.SOURCE_EMPTY, f"expected {EXPECTED}, found no photo there", path=where)
    return tuple(kept)


def _folder_files(root: Path, hashes: dict[str, str], excluded: tuple[Path, ...]) -> list[SourceFile]:
    files = []
    for folder, folders, names in os.walk(root, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if (Path(folder) / name).resolve() not in excluded)
        for name in names:
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            files.append(SourceFile(relative, _local(path), hashes.get(relative)))
    return files


def _unreadable(error: OSError) -> None:
    raise DigitizeError(
        ReasonCode.SOURCE_NOT_FOUND, f"expected a readable folder, found: {error.strerror}", path=str(error.filename)
    ) from error


def _local(path: Path) -> Callable[[Path], Path]:
    return lambda target: path


def _hashes(ref: ArtifactRef) -> dict[str, str]:
    return {file.path: file.sha256 for file in ref.files}


def _other_folders(context: Context, name: str) -> tuple[Path, ...]:
    """Folders of the other inputs: masks that lie inside the photos' folder are not photos."""
    others = (ref.uri for key, ref in context.request.inputs.items() if key != name and ":" not in ref.uri)
    return tuple(Path(uri).resolve() for uri in others)


def _check(root: Path, ref: ArtifactRef) -> None:
    expected = _hashes(ref).get(root.name)
    if expected is not None:
        check(root, expected)


def _bucket_files(context: Context, ref: ArtifactRef) -> list[SourceFile]:
    store, planned = context.open_store(ref.uri), _hashes(ref)

    def fetcher(key: str) -> Callable[[Path], Path]:
        def fetch(target: Path) -> Path:
            target.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(key, target)
            return target

        return fetch

    files = []
    for stat in store.list(""):
        expected = planned.get(stat.key, "")
        if expected.startswith(ETAG) and expected != f"{ETAG}{stat.etag}":
            raise changed(f"{ref.uri}/{stat.key}")
        sha256 = None if not expected or expected.startswith(ETAG) else expected
        files.append(SourceFile(stat.key, fetcher(stat.key), sha256))
    return files
