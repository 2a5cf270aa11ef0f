"""What the user gave for an asset, by content."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from infra.storage import open_store
from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef, FileRef
from models.spec import PACKAGE, AssetSpec
from models.spec_yaml import SpecFile
from models.weights import listed, package_ref, pinned_ref
from tasks.external import ETAG
from tasks.mask.options import NETWORK

_log = logging.getLogger("digitize.plan")
WEIGHTS = "weights:"
"""Begins the name of an input that `models/weights.txt` lists."""
Place = tuple[str | int, ...]
Refer = Callable[[str], ArtifactRef]
"""What lies at a uri, by content: `source_ref`, or one that remembers."""


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


def find_sources(
    spec_file: SpecFile, index: int, asset: AssetSpec, read: Iterable[str], refer: Refer | None = None
) -> dict[str, ArtifactRef]:
    """What an asset's methods read of what the user gave, by content.

    Args:
        read: the external inputs that the asset's methods ask for.

    Raises DigitizeError(source_not_found, source_empty, or checksum_mismatch for a network for masks) with the
    specification's line.
    """
    places = given_places(asset)
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
                sources[name] = (refer or source_ref)(spec_file.resolve(location))
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
    if (found := (refer or source_ref)(uri).files[0].sha256) != sha256:
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


def remembering() -> Refer:
    """`source_ref` for planning: files that look untouched since they were last hashed are not read again.

    The catalogue only saves time: without one that answers, everything is hashed.
    """
    from infra.catalogue import Catalogue

    try:
        return Catalogue().remember_sources(source_ref)
    except DigitizeError as error:
        _log.warning("the catalogue cannot be used, so all photos are hashed: %s", error)
        return source_ref


def source_ref(uri: str) -> ArtifactRef:
    """A reference to a folder, a file, an `s3://` prefix or an object by the content of its files.

    Objects on S3 are identified by key, size and ETag rather than downloaded.
    """
    if uri.startswith("s3://"):
        files = _bucket_files(uri)
    else:
        path = Path(uri)
        if not path.exists():
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected a folder or file, found nothing at {path}")
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if _counts(p, path))
        base = path.parent if path.is_file() else path
        files = tuple(
            FileRef(path=p.relative_to(base).as_posix(), sha256=sha256_file(p), bytes=p.stat().st_size) for p in found
        )
    if not files:
        raise DigitizeError(ReasonCode.SOURCE_EMPTY, f"expected at least one file, found none in {uri}")
    return ArtifactRef(digest=ArtifactRef.content_digest(files), uri=uri, files=files)


def _bucket_files(uri: str) -> tuple[FileRef, ...]:
    """The objects below a prefix; where there are none, the one object of that key."""
    stats = list(open_store(uri).list(""))
    folder, _, name = uri.rpartition("/")
    if not stats and name and folder != "s3:/":
        stat = open_store(folder).stat(name)
        stats = [] if stat is None else [stat]
    return tuple(FileRef(path=stat.key, sha256=f"{ETAG}{stat.etag}", bytes=stat.bytes) for stat in stats)


def _counts(path: Path, root: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
