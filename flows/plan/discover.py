"""Find captures in a folder: what becomes an asset, and what is passed over and why."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from models.artifacts import TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE
from models.digest import sha256_bytes
from models.listing import Listed, Passed, is_own, list_folder, readable
from models.media import MASK_FOLDERS, Kind, developed_beside, kind_of
from models.raw_format import EXTRA, can_develop

_POSES = {"transforms.json": "transforms", "cameras.json": "cameras"}
_MOST_LOST = 1 / 3
"""Letters of a name that an id may lose before a digest tells it apart."""


@dataclass(frozen=True)
class Capture:
    """One object's photos, as found. All paths are relative to the folder that was searched."""

    id: str
    photos: str
    about: str
    """What is there, for a comment: `34 photos`, `archive`, `video`."""
    masks: str | None = None
    poses: str | None = None
    poses_format: str = "transforms"


@dataclass
class Found:
    """What a folder holds."""

    captures: list[Capture] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)


def slug(name: str) -> str:
    """An asset id from a file's name: `Vase Nº 3` -> `vase-no-3`. What Latin letters cannot say ends in a digest.

    >>> slug("Vase Nº 3"), slug("花瓶"), slug("花瓶 12")
    ('vase-no-3', 'asset-e9396280', '12-df8ba696')
    """
    letters = [char for char in unicodedata.normalize("NFKD", name) if char.isalnum()]
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9._-]+", "-", text).strip("-._")
    text = text[:100].rstrip("-._") or "asset"
    if sum(not char.isascii() for char in letters) > _MOST_LOST * len(letters):
        return f"{text[:90]}-{sha256_bytes(name.encode('utf-8', 'surrogateescape'))[:8]}"
    return text


def find_captures(folder: Path) -> Found:
    """The captures in a folder, in name order, and what is passed over.

    A subfolder with photos, at any depth, is one capture; so is each archive and each video. A folder that holds
    photos itself is a single one, with the photos of its subfolders.
    """
    found = Found()
    if _has_photos(folder) or any((folder / name).is_file() for name in _POSES):
        _add_folder(folder, folder, found)
        return found
    for entry in sorted(folder.iterdir(), key=lambda path: path.name.casefold()):
        _add(entry, folder, found)
    found.captures = _unique(found.captures)
    return found


def _add(entry: Path, root: Path, found: Found) -> None:
    name, kind = readable(entry.name), kind_of(entry.name)
    if entry.is_dir():
        why = is_own(entry) or _is_truth(entry)
        if kind is Kind.SYSTEM:
            found.passed.append(Passed(f"{name}/", kind.value, noise=True))
        elif why:
            found.passed.append(Passed(f"{name}/", why))
        else:
            _add_folder(entry, root, found)
    elif kind in (Kind.ARCHIVE, Kind.VIDEO) and entry.is_file():
        found.captures.append(Capture(slug(_stem(entry.name)), entry.name, kind.value))
    elif not entry.is_file():
        what = "a link to nothing" if entry.is_symlink() else "no file and no folder"
        found.passed.append(Passed(name, what))
    else:
        noise = kind in (Kind.SYSTEM, Kind.SIDECAR)
        found.passed.append(Passed(name, kind.value, noise=noise))


def _add_folder(folder: Path, root: Path, found: Found) -> None:
    """The capture of a folder with photos; the captures of the archives and videos of one without."""
    try:
        listing = list_folder(folder)
    except OSError as error:
        found.passed.append(Passed(f"{_relative(folder, root)}/", f"not readable: {error.strerror}"))
        return
    below = "" if folder == root else f"{_relative(folder, root)}/"
    photos = listing.of_kinds(Kind.PHOTO, Kind.RAW)
    others = [each for each in listing.files if each not in photos]
    if not photos:
        whole = listing.of_kinds(Kind.ARCHIVE, Kind.VIDEO)
        found.captures += [_of_file(each, folder, below, len(whole)) for each in whole]
        others = [each for each in others if each not in whole]
        if not whole and below:
            found.passed.append(Passed(below, "no photos in it"))
            others = []
    else:
        found.captures.append(_of_folder(folder, root, photos))
    found.passed += [Passed(f"{below}{each.path}", f"{each.kind.value}: not a photo") for each in others]
    masks = found.captures[-1].masks if found.captures else None
    found.passed += [
        replace(each, path=f"{below}{each.path}")
        for each in listing.passed
        if f"{below}{each.path}".rstrip("/") != masks
    ]


def _of_folder(folder: Path, root: Path, photos: Sequence[Listed]) -> Capture:
    names = [PurePosixPath(each.path) for each in photos]
    folders = sorted({str(name.parent) for name in names})
    common = folder / _common([name.parent for name in names])
    masks = next((path for base in (common, folder, common.parent) if (path := _masks(base, root, names))), None)
    poses = next((folder / name for name in _POSES if (folder / name).is_file()), None)
    about = _about(photos)
    if len(folders) > 1:
        about += f" in {len(folders)} folders"
    return Capture(
        id=slug(folder.resolve().name),
        photos=_relative(common, root),
        about=about,
        masks=masks,
        poses=_relative(poses, root) if poses else None,
        poses_format=_POSES[poses.name] if poses else "transforms",
    )


def _about(photos: Sequence[Listed]) -> str:
    """`34 photos`, with a word about raw files."""
    twins = developed_beside(each.path for each in photos)
    raws = sum(each.kind is Kind.RAW for each in photos) - len(twins)
    count = len(photos) - len(twins)
    about = f"{count} photo{'s' if count > 1 else ''}"
    if raws:
        about += f", {raws} raw" if raws < count else ", raw"
        about += "" if can_develop() else f" (needs {EXTRA})"
    return about + (f", {len(twins)} with a raw file beside it" if twins else "")


def _of_file(file: Listed, folder: Path, below: str, count: int) -> Capture:
    name = folder.resolve().name if count == 1 and below else _stem(PurePosixPath(file.path).name)
    return Capture(slug(name), f"{below}{file.path}", file.kind.value)


def _masks(folder: Path, root: Path, photos: list[PurePosixPath]) -> str | None:
    """A folder of masks in a folder, where some are named as photos are."""
    if not folder.is_relative_to(root):
        return None
    stems = {name.stem.casefold() for name in photos}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.casefold() in MASK_FOLDERS and path.is_dir():
            inside = [PurePosixPath(each.path.casefold()) for each in list_folder(path).of_kinds(Kind.PHOTO)]
            if any(re.sub(r"([._-]mask|\.[a-z]{3,4})$", "", name.stem) in stems for name in inside):
                return _relative(path, root)
    return None


def _is_truth(folder: Path) -> str:
    files = (TRUTH_MESH_FILE, TRUTH_CAMERAS_FILE)
    return "a truth to score against" if all((folder / name).is_file() for name in files) else ""


def _has_photos(folder: Path) -> bool:
    return any(kind_of(path.name) in (Kind.PHOTO, Kind.RAW) and path.is_file() for path in folder.iterdir())


def _common(folders: list[PurePosixPath]) -> PurePosixPath:
    shared = folders[0].parts
    for each in folders[1:]:
        length = next((k for k, pair in enumerate(zip(shared, each.parts, strict=False)) if len(set(pair)) > 1), None)
        shared = shared[: min(len(shared), len(each.parts)) if length is None else length]
    return PurePosixPath(*shared)


def _stem(name: str) -> str:
    """A file's name without its suffix, `.tar.gz` as well."""
    stem = PurePosixPath(name).stem
    return stem.removesuffix(".tar") if name.casefold().endswith((".tar.gz", ".tar.bz2", ".tar.xz")) else stem


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _unique(captures: list[Capture]) -> list[Capture]:
    """The captures with `-2`, `-3`... added to ids that came before."""
    taken: set[str] = set()
    result = []
    for capture in captures:
        name, number = capture.id, 2
        while name in taken:
            name, number = f"{capture.id[:95]}-{number}", number + 1
        taken.add(name)
        result.append(replace(capture, id=name))
    return result
