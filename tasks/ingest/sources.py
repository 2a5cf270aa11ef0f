"""Where photos come from: a folder, a zip or tar archive, a video, or an `s3://` prefix. All give one list of files."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from models.errors import DigitizeError, ReasonCode
from models.listing import list_folder, list_keys
from models.media import HEAD, Kind, developed_beside, kind_of, what_is
from models.raw_format import EXTRA, can_develop
from models.results import ArtifactRef
from tasks.context import Context
from tasks.external import ETAG, changed, check
from tasks.ingest.archive import ArchiveLimits, open_archive
from tasks.ingest.source_file import SourceFile
from tasks.ingest.video import VideoLimits

EXPECTED = "a folder, a zip or tar archive, a video, or an s3:// prefix with JPEG, PNG, TIFF, WebP, HEIC or raw photos"


@dataclass(frozen=True)
class SourceLimits:
    """Bounds on what a source may make this machine read or write."""

    archive: ArchiveLimits
    video: VideoLimits


@contextmanager
def open_source(context: Context, name: str, limits: SourceLimits) -> Iterator[tuple[SourceFile, ...]]:
    """The files of external input `name` in natural order, without what `models.listing` passes over.

    Raises DigitizeError(source_not_found, source_empty, unsupported_format or archive_unsafe).
    """
    ref = context.input(name)
    if "://" in ref.uri:
        files = _bucket_files(context, ref)
        if len(files) == 1 and ref.uri.endswith(f"/{files[0].path}"):
            local = files[0].fetch(context.scratch / "source" / PurePosixPath(files[0].path).name)
            with _open_file(context, local, ref.uri, limits) as opened:
                yield opened
            return
        yield _in_order(files, ref.uri)
        return
    root = Path(ref.uri)
    if root.is_dir():
        yield _in_order(_folder_files(root, ref), ref.uri)
        return
    if not root.is_file():
        found = "a link to nothing" if root.is_symlink() else "nothing at this path"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected {EXPECTED}, found {found}", path=ref.uri)
    _check(root, ref)
    with _open_file(context, root, ref.uri, limits) as opened:
        yield opened


@contextmanager
def _open_file(context: Context, path: Path, where: str, limits: SourceLimits) -> Iterator[tuple[SourceFile, ...]]:
    """The files of an archive, the frames of a video.

    Args:
        where: what errors call it.
    """
    kind = kind_of(path.name)
    if kind is Kind.VIDEO:
        context.progress(0.0, f"choosing frames of {path.name}", {})
        from tasks.ingest.decoder import VIDEO_SECONDS, Decoder

        decoder = Decoder(limits.video.max_pixels, context.check)
        try:
            key_frames = decoder.frames(path, context.scratch / "frames", limits.video, context.threads, VIDEO_SECONDS)
        finally:
            decoder.close()
        notes = [key_frames.note, *[""] * (len(key_frames.paths) - 1)]
        frames = zip(key_frames.paths, notes, strict=True)
        yield tuple(SourceFile(frame.name, _local(frame), note=note) for frame, note in frames)
    elif kind is Kind.ARCHIVE:
        with open_archive(path, limits.archive, context.scratch / "unpacked") as entries:
            files = [SourceFile(entry.path, entry.extract) for entry in entries]
            kept = {each.path for each in list_keys(file.path for file in files).files}
            yield _in_order([file for file in files if file.path in kept], where)
    elif kind in (Kind.PHOTO, Kind.RAW):
        message = f"expected {EXPECTED}, found one photo"
        hint = "Give the folder that holds the photos: one photo alone has no depth."
        raise DigitizeError(ReasonCode.UNSUPPORTED_FORMAT, message, hint, path=where)
    else:
        with path.open("rb") as file:
            found = what_is(file.read(HEAD))
        hint = "Unpack it, or pack it again as zip or tar." if kind is Kind.PACKED else ""
        message = f"expected {EXPECTED}, found {found} ('{path.suffix}')"
        raise DigitizeError(ReasonCode.UNSUPPORTED_FORMAT, message, hint, path=where)


def refusal_of_type(path: str) -> str | None:
    """Why a file is refused by its type, or None for the types of photos; raw files are of them where their reader is
    installed."""
    kind, suffix = kind_of(path), PurePosixPath(path).suffix.lower()
    if kind is Kind.PHOTO or (kind is Kind.RAW and can_develop()):
        return None
    found = {
        Kind.VIDEO: "a video: give the video file itself as the source",
        Kind.RAW: f"a raw file ({suffix}) and no reader for it: pip install '{EXTRA}', or develop it first",
        Kind.ARCHIVE: "an archive: give the archive itself as the source, or unpack it",
        Kind.PACKED: "an archive: unpack it",
        Kind.UNFINISHED: f"an unfinished transfer ({suffix}): copy it again",
    }
    other = f"a file of type '{suffix}'" if suffix else "a file without a type"
    return f"expected JPEG, PNG, TIFF, WebP or HEIC, found {found.get(kind, other)}"


def passed_over(files: Sequence[SourceFile], prefer_raw: bool) -> dict[str, str]:
    """The files of pairs, raw and developed by the camera, that are not used, each with the one that is, by path.

    Args:
        prefer_raw: whether the raw file of a pair is used.
    """
    pairs = developed_beside(file.path for file in files)
    return {picture: raw for raw, picture in pairs.items()} if prefer_raw else pairs


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


def names_of(paths: Iterable[str]) -> dict[str, str]:
    """Every name by which a photo may be called -> its path: the path, the name in the capture, and a base name that
    occurs once."""
    listed = tuple(paths)
    bases = Counter(PurePosixPath(path).name for path in listed)
    single = {PurePosixPath(path).name: path for path in listed if bases[PurePosixPath(path).name] == 1}
    return single | dict(zip(unique_names(listed), listed, strict=True)) | {path: path for path in listed}


def named_by(pattern: str, paths: Iterable[str]) -> set[str]:
    """The paths of the photos that a name or a pattern means: `IMG_1.jpg`, `bar_*.jpg`, `context/*`.

    Letters' case counts. A name that a photo has is that photo's, whatever signs of patterns it holds.
    """
    known = names_of(paths)
    if pattern in known:
        return {known[pattern]}
    return {path for name, path in known.items() if fnmatchcase(name, pattern)}


def no_such_photo(wanted: str, known: Iterable[str]) -> str:
    """What to say of a name that no photo has, with the names that may have been meant."""
    listed = sorted(known)
    folded = {each.casefold(): each for each in listed}
    close = get_close_matches(wanted.casefold(), list(folded), 3, 0.6)
    if wanted.casefold() in folded:
        near = f"there is {folded[wanted.casefold()]}"
    else:
        near = f"the nearest are {', '.join([folded[each] for each in close] or listed[:3])}"
    return f"expected a photo of the capture, found '{wanted}', which is none; {near if listed else 'there are none'}"


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


def _in_order(files: list[SourceFile], where: str) -> tuple[SourceFile, ...]:
    if not files:
        raise DigitizeError(ReasonCode.SOURCE_EMPTY, f"expected {EXPECTED}, found no photo there", path=where)
    return tuple(sorted(files, key=lambda file: natural_key(file.path)))


def _folder_files(root: Path, ref: ArtifactRef) -> list[SourceFile]:
    """Those of a folder's files that were there when the run was planned, and were meant: no store, no masks."""
    try:
        found = {each.path: each.local for each in list_folder(root).files if each.local is not None}
    except OSError as error:
        message = f"expected a readable folder, found: {error.strerror}"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, path=str(root)) from error
    hashes = _hashes(ref)
    wanted = hashes or dict.fromkeys(found)
    return [SourceFile(path, _local(found.get(path, root / path)), sha256) for path, sha256 in wanted.items()]


def _local(path: Path) -> Callable[[Path], Path]:
    return lambda target: path


def _hashes(ref: ArtifactRef) -> dict[str, str]:
    return {file.path: file.sha256 for file in ref.files}


def _check(root: Path, ref: ArtifactRef) -> None:
    expected = _hashes(ref).get(root.name)
    if expected is not None:
        check(root, expected)


def _bucket_files(context: Context, ref: ArtifactRef) -> list[SourceFile]:
    planned = _hashes(ref)
    folder, _, last = ref.uri.rpartition("/")
    single = list(planned) == [last]
    store = context.open_store(folder if single else ref.uri)
    one = store.stat(last) if single else None
    stats = list(store.list("")) if one is None else [one]
    meant = planned or {each.path for each in list_keys(stat.key for stat in stats).files}

    def fetcher(key: str) -> Callable[[Path], Path]:
        def fetch(target: Path) -> Path:
            target.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(key, target)
            return target

        return fetch

    files = []
    for stat in stats:
        if stat.key not in meant:
            continue
        expected = planned.get(stat.key, "")
        if expected.startswith(ETAG) and expected != f"{ETAG}{stat.etag}":
            raise changed(f"{ref.uri}/{stat.key}")
        sha256 = None if not expected or expected.startswith(ETAG) else expected
        files.append(SourceFile(stat.key, fetcher(stat.key), sha256))
    return files
