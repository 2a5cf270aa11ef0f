"""What the user gave for an asset, by content."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.storage import open_store
from models.digest import digest_of, sha256_file
from models.errors import DigitizeError, ReasonCode
from models.listing import list_folder, list_keys
from models.media import CAMERA_SUFFIXES, Kind, kind_of
from models.raw_format import INSTALL, can_develop
from models.results import ArtifactRef, FileRef
from models.spec import PACKAGE, AssetSpec
from models.spec_yaml import SpecFile
from models.weights import listed, package_ref, pinned_ref
from tasks.external import ETAG
from tasks.mask.options import NETWORK

if TYPE_CHECKING:
    from infra.catalogue import Catalogue

_log = logging.getLogger("digitize.plan")
WEIGHTS = "weights:"
"""Begins the name of an input that `models/weights.txt` lists."""
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Reading:
    """What of a place counts as its content."""

    photos: bool = False
    """Photos, videos and archives, and what is refused by name; not sidecars, system files and masks beside them."""
    suffixes: tuple[str, ...] = ()
    """Of a folder, files that end so alone; empty for all."""
    excluded: tuple[tuple[str, str], ...] = ()
    """Resolved paths that are no part of it, and what they are."""


Refer = Callable[[str, Reading], ArtifactRef]
"""What lies at a uri, by content: `source_ref`, or one that remembers."""
_PHOTOS = frozenset({"photos", "masks"})
_READ_WITHOUT = (Kind.PHOTO, Kind.VIDEO, Kind.ARCHIVE)
"""Kinds of files that need no reader of raw files."""


def given_places(asset: AssetSpec) -> dict[str, tuple[str, Place]]:
    """The location of everything that an asset's specification gives, and its place below the asset, by input name."""
    found: dict[str, tuple[str, Place]] = {"photos": (asset.photos, ("photos",))}
    if asset.given_masks:
        found["masks"] = (asset.given_masks.path, ("masks", "path"))
    if asset.mask_network:
        found[NETWORK] = (asset.mask_network.network, ("masks", "network"))
    if asset.poses:
        found["poses"] = (asset.poses.path, ("poses", "path"))
    if asset.truth:
        found["truth"] = (asset.truth, ("truth",))
    return found | {name: (each.uri, ("inputs", name)) for name, each in asset.inputs.items()}


def other_places(spec_file: SpecFile, asset: AssetSpec) -> dict[str, dict[Path, str]]:
    """For each input of an asset, the local places that may lie among it and are no part of it, and what they are."""
    spec = spec_file.spec
    common = {spec.store: "the store"} | {target.to: "a target of this specification" for target in spec.publish}
    given = {name: location for name, (location, _) in given_places(asset).items()}
    named = {location: f"{name} of this asset" for name, location in given.items()}

    def local(places: Mapping[str, str]) -> dict[Path, str]:
        uris = {spec_file.resolve(location): what for location, what in places.items() if "://" not in location}
        return {Path(uri).resolve(): what for uri, what in uris.items() if "://" not in uri}

    return {
        name: local(common | {place: what for place, what in named.items() if place != location})
        for name, location in given.items()
    }


def reading_of(name: str, others: Mapping[str, Mapping[Path, str]]) -> Reading:
    """How external input `name` is read, with what `other_places` found."""
    excluded = tuple((str(path), what) for path, what in others.get(name, {}).items())
    if name == "poses":
        return Reading(suffixes=CAMERA_SUFFIXES)
    return Reading(True, excluded=excluded) if name in _PHOTOS else Reading()


def find_sources(
    spec_file: SpecFile, index: int, asset: AssetSpec, read: Iterable[str], refer: Refer | None = None
) -> dict[str, ArtifactRef]:
    """What an asset's methods read of what the user gave, by content.

    Args:
        read: the external inputs that the asset's methods ask for.

    Raises DigitizeError(source_not_found, source_empty, missing_dependency for a capture of raw files alone, or
    checksum_mismatch for a network for masks) with the specification's line.
    """
    places = given_places(asset)
    others = other_places(spec_file, asset)
    sources = {name: _weights(name) for name in read if name.startswith(WEIGHTS)}
    for name, (location, place) in places.items():
        if name not in read:
            continue
        try:
            if name == NETWORK and asset.mask_network:
                sources[name] = network_ref(spec_file.resolve(location), asset.mask_network.sha256, refer)
            elif location.startswith(PACKAGE):
                sources[name] = package_ref(location, asset.inputs[name].sha256 or "")
            else:
                uri = spec_file.resolve(location)
                check_place(uri, photos=name == "photos")
                sources[name] = (refer or source_ref)(uri, reading_of(name, others))
                if name == "photos":
                    check_raw_reader(file.path for file in sources[name].files)
        except DigitizeError as error:
            raise spec_file.error(("assets", index, *place), error.message, error.code, error.hint) from error
    return sources


def network_ref(uri: str, sha256: str, refer: Refer | None = None) -> ArtifactRef:
    """A network for masks, known by its sha256 alone.

    A local file is read; an object on S3 and a package's file are checked where the work runs.

    Raises DigitizeError(source_not_found) when there is no such file or object, and DigitizeError(checksum_mismatch)
    when a local file holds other bytes.
    """
    if uri.startswith(PACKAGE):
        return pinned_ref(uri, sha256)
    if uri.startswith("s3://"):
        folder, _, name = uri.rpartition("/")
        if folder == "s3:/" or open_store(folder).stat(name) is None:
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected an ONNX file, found no object at {uri}")
        return pinned_ref(uri, sha256)
    if not Path(uri).is_file():
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected an ONNX file, found none at {uri}")
    if (found := (refer or source_ref)(uri, Reading()).files[0].sha256) != sha256:
        raise DigitizeError(
            ReasonCode.CHECKSUM_MISMATCH,
            f"expected the sha256 {sha256} of {uri}, found {found}",
            "Copy the network again; if the file is the one you mean, write the sha256 found into the specification.",
        )
    return pinned_ref(uri, sha256)


def _weights(name: str) -> ArtifactRef:
    weights = listed().get(name.removeprefix(WEIGHTS))
    if weights is None:
        known = ", ".join(listed()) or "none"
        message = f"expected weights that models/weights.txt lists ({known}), found '{name}'"
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message)
    return weights.ref


def remembering(catalogue: Catalogue | None = None) -> Refer:
    """`source_ref` for planning: files that look untouched since they were last hashed are not read again.

    The catalogue only saves time: without one that answers, everything is hashed.
    """
    from infra.catalogue import Catalogue

    try:
        known = catalogue or Catalogue()
    except DigitizeError as error:
        _log.warning("the catalogue cannot be used, so all photos are hashed: %s", error)
        return source_ref

    def refer(uri: str, reading: Reading) -> ArtifactRef:
        if "://" in uri:
            return source_ref(uri, reading)
        found = _local_files(Path(uri), reading)
        return known.remember(f"{uri} {digest_of(asdict(reading))}", found, lambda: _ref(uri, _hashed(found)))

    return refer


def source_ref(uri: str, reading: Reading = Reading()) -> ArtifactRef:
    """A reference to a folder, a file, an `s3://` prefix or an object by the content of its files.

    Objects on S3 are identified by key, size and ETag rather than downloaded.

    Raises DigitizeError(source_not_found or source_empty).
    """
    return _ref(uri, _bucket_files(uri, reading) if "://" in uri else _hashed(_local_files(Path(uri), reading)))


def _ref(uri: str, files: tuple[FileRef, ...]) -> ArtifactRef:
    if not files:
        raise DigitizeError(ReasonCode.SOURCE_EMPTY, f"expected at least one file, found none in {uri}")
    return ArtifactRef(digest=ArtifactRef.content_digest(files), uri=uri, files=files)


def _hashed(found: Mapping[str, Path]) -> tuple[FileRef, ...]:
    refs = []
    for name, path in found.items():
        try:
            refs.append(FileRef(path=name, sha256=sha256_file(path), bytes=path.stat().st_size))
        except OSError as error:
            message = f"expected a readable file, found: {error.strerror} ({path})"
            hint = "Make the file readable for this user, or move it out of the folder."
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, hint) from error
    return tuple(refs)


def check_place(uri: str, photos: bool = False) -> None:
    """Refuse what nothing can be read from, before it is looked for.

    Raises DigitizeError(spec_invalid or unsupported_format).
    """
    scheme, found, rest = uri.partition("://")
    if found and scheme != "s3":
        hint = "Write s3:// in lower case." if scheme.lower() == "s3" else "Copy it to a folder or to S3 first."
        message = f"expected a path or s3://bucket/prefix, found the scheme {scheme}://"
        raise DigitizeError(ReasonCode.SPEC_INVALID, message, hint)
    if found and not rest.split("/")[0]:
        raise DigitizeError(ReasonCode.SPEC_INVALID, f"expected s3://bucket/prefix, found {uri} without a bucket")
    if photos and kind_of(uri.rpartition("/")[2]) in (Kind.PHOTO, Kind.RAW) and (found or Path(uri).is_file()):
        hint = "Give the folder that holds the photos: one photo alone has no depth."
        raise DigitizeError(ReasonCode.UNSUPPORTED_FORMAT, "expected a folder of photos, found one photo", hint)


def check_raw_reader(paths: Iterable[str]) -> None:
    """Refuse a capture of raw files alone where nothing reads them.

    Raises DigitizeError(missing_dependency).
    """
    names = list(paths)
    kinds = [kind_of(name) for name in names]
    if can_develop() or Kind.RAW not in kinds or any(kind in _READ_WITHOUT for kind in kinds):
        return
    first = names[kinds.index(Kind.RAW)]
    message = f"expected rawpy, which reads raw files, found none; {kinds.count(Kind.RAW)} photos are such ({first})"
    raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, INSTALL)


def _local_files(path: Path, reading: Reading) -> dict[str, Path]:
    """The files at a path that are its content, by their names below it."""
    if not path.exists():
        what = "a link to nothing" if path.is_symlink() else "nothing"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected a folder or file, found {what} at {path}")
    if path.is_file():
        return {path.name: path}
    if not reading.photos:
        found = {p.relative_to(path).as_posix(): p for p in sorted(path.rglob("*")) if _counts(p, path)}
        kept = {name: each for name, each in found.items() if name.lower().endswith(reading.suffixes or "")}
        if reading.suffixes and not kept:
            message = f"expected a file such as transforms.json, or a COLMAP model, found neither in the folder {path}"
            raise DigitizeError(ReasonCode.SOURCE_EMPTY, message, "Name the file of cameras itself.")
        return kept
    try:
        listing = list_folder(path, {Path(place): what for place, what in reading.excluded})
    except OSError as error:
        message = f"expected a readable folder, found: {error.strerror} ({path})"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message) from error
    return {each.path: each.local for each in listing.files if each.local is not None}


def _bucket_files(uri: str, reading: Reading) -> tuple[FileRef, ...]:
    """The objects below a prefix; where there are none, the one object of that key."""
    stats = list(open_store(uri).list(""))
    folder, _, name = uri.rpartition("/")
    if not stats and name and folder != "s3:/":
        stat = open_store(folder).stat(name)
        stats = [] if stat is None else [stat]
    if reading.photos and len(stats) > 1:
        read = {each.path for each in list_keys(stat.key for stat in stats).files}
        stats = [stat for stat in stats if stat.key in read]
    if reading.suffixes and len(stats) > 1:
        stats = [stat for stat in stats if stat.key.lower().endswith(reading.suffixes)]
    return tuple(FileRef(path=stat.key, sha256=f"{ETAG}{stat.etag}", bytes=stat.bytes) for stat in stats)


def _counts(path: Path, root: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
