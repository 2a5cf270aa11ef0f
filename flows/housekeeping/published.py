"""What is published: check every byte of it, go back to an earlier version, take an asset away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from models.artifacts import MANIFEST_FILE
from models.digest import canonical_json, sha256_bytes
from models.errors import DigitizeError, ReasonCode
from models.manifest import Latest, Manifest, PublishedFile, Withdrawn, latest_key, withdrawn_key
from models.store import Store

_WORKERS = 8


@dataclass(frozen=True)
class Damage:
    """One thing at a target that is not what was published."""

    asset: str
    path: str
    expected: str
    found: str


@dataclass(frozen=True)
class Verified:
    """What was checked at one target."""

    target: str
    versions: int
    files: int
    bytes: int
    damages: tuple[Damage, ...]


def verify_target(store: Store, assets: Iterable[str] = (), every_version: bool = False) -> Verified:
    """Read every published file back and compare its sha256 with its manifest, and the manifest's with `latest.json`.

    Args:
        assets: those alone; all when empty.
        every_version: earlier versions too, not only those in force.
    """
    wanted = set(assets)
    keys = [stat.key for stat in store.list("assets/")]
    manifests: list[tuple[str, str, str | None]] = []
    damages: list[Damage] = []
    for key in keys:
        asset = key.split("/")[1]
        if wanted and asset not in wanted:
            continue
        if key == latest_key(asset):
            try:
                latest = Latest.model_validate_json(store.get_bytes(key) or b"")
                manifests.append((asset, latest.manifest, latest.manifest_sha256))
            except ValidationError:
                damages.append(Damage(asset, key, "a record of the version in force", "something else"))
    if every_version:
        named = {manifest for _, manifest, _ in manifests}
        for key in keys:
            asset = key.split("/")[1]
            if key.endswith(f"/{MANIFEST_FILE}") and key not in named and (not wanted or asset in wanted):
                manifests.append((asset, key, None))
    files: list[tuple[str, str, PublishedFile]] = []
    for asset, key, digest in manifests:
        found = _read_manifest(store, asset, key, digest)
        if isinstance(found, Damage):
            damages.append(found)
        else:
            files += [(asset, f"{key.rpartition('/')[0]}/{file.path}", file) for file in found.files]
    with ThreadPoolExecutor(_WORKERS) as pool:
        checks = pool.map(lambda each: _check(store, *each), files)
        damages += [damage for damage in checks if damage is not None]
    return Verified(store.uri, len(manifests), len(files), sum(file.bytes for _, _, file in files), tuple(damages))


def _read_manifest(store: Store, asset: str, key: str, digest: str | None) -> Manifest | Damage:
    data = store.get_bytes(key)
    if data is None:
        return Damage(asset, key, "a manifest", "nothing")
    if digest is not None and sha256_bytes(data) != digest:
        return Damage(asset, key, f"sha256 {digest}", f"sha256 {sha256_bytes(data)}")
    try:
        return Manifest.model_validate_json(data)
    except ValidationError:
        return Damage(asset, key, "a manifest", "something else")


def _check(store: Store, asset: str, key: str, file: PublishedFile) -> Damage | None:
    expected = f"sha256 {file.sha256}"
    try:
        digest = store.sha256(key)
    except DigitizeError as error:
        if error.code is not ReasonCode.CHECKSUM_MISMATCH:
            raise
        return Damage(asset, key, expected, "nothing" if store.stat(key) is None else "other bytes")
    return None if digest == file.sha256 else Damage(asset, key, expected, f"sha256 {digest}")


def versions(store: Store, asset: str) -> list[int]:
    """The versions of an asset that were published in full, the first one first."""
    keys = [stat.key.split("/") for stat in store.list(f"assets/{asset}/v")]
    return sorted(int(key[2][1:]) for key in keys if key[3:] == [MANIFEST_FILE] and key[2][1:].isdigit())


def rollback(store: Store, asset: str, version: int | None = None) -> Latest:
    """Put an earlier version in force, after checking all its files; a withdrawn asset comes back.

    Args:
        version: which; the one before the present one when None.

    Raises DigitizeError(source_not_found) when there is no such version, (checksum_mismatch) when it is damaged,
    (publish_conflict, retryable) when somebody else published meanwhile.
    """
    known = versions(store, asset)
    before = store.stat(latest_key(asset))
    data = store.get_bytes(latest_key(asset))
    present = Latest.model_validate_json(data).version if data else (known[-1] + 1 if known else 0)
    chosen = version if version is not None else max((each for each in known if each < present), default=0)
    if chosen not in known:
        there = ", ".join(f"v{each}" for each in known) or "none"
        message = f"expected version {chosen or 'before the present one'} of {asset}; published in full: {there}"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, "Choose with --to.", asset=asset, path=store.uri)
    key = f"assets/{asset}/v{chosen}/{MANIFEST_FILE}"
    manifest = _read_manifest(store, asset, key, None)
    damages = [manifest] if isinstance(manifest, Damage) else list(_damages(store, manifest, chosen))
    if damages or isinstance(manifest, Damage):
        first = damages[0]
        message = f"version {chosen} is damaged: expected {first.expected}, found {first.found}"
        raise DigitizeError(ReasonCode.CHECKSUM_MISMATCH, message, asset=asset, path=f"{store.uri}/{first.path}")
    latest = Latest(
        asset=asset,
        version=chosen,
        manifest=key,
        manifest_sha256=sha256_bytes(store.get_bytes(key) or b""),
        verdict=manifest.verdict,
    )
    condition = {"if_absent": True} if before is None else {"if_match": before.etag}
    if not store.put_bytes(latest_key(asset), canonical_json(latest), **condition):
        raise DigitizeError(
            ReasonCode.PUBLISH_CONFLICT, "another run published this asset", retryable=True, asset=asset, path=store.uri
        )
    store.delete(withdrawn_key(asset))
    return latest


def _damages(store: Store, manifest: Manifest, version: int) -> Iterator[Damage]:
    for file in manifest.files:
        if damage := _check(store, manifest.asset, f"assets/{manifest.asset}/v{version}/{file.path}", file):
            yield damage


def withdraw(store: Store, asset: str, why: str, purge: bool = False) -> int:
    """Take an asset out of force; nothing publishes it again until somebody rolls back to one of its versions.

    Args:
        why: kept in `withdrawn.json`, for people.
        purge: also remove the files of every version. They cannot be brought back.

    Returns:
        the objects that were removed.

    Raises DigitizeError(source_not_found) when the target does not know the asset.
    """
    stats = list(store.list(f"assets/{asset}/"))
    if not stats:
        message = f"expected a published asset '{asset}', found none"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, "Check the id.", asset=asset, path=store.uri)
    # The mark comes first, so that no run publishes in between
    store.put_bytes(withdrawn_key(asset), canonical_json(Withdrawn(asset=asset, why=why)))
    store.delete(latest_key(asset))
    keys = [stat.key for stat in stats if stat.key not in (withdrawn_key(asset), latest_key(asset))] if purge else []
    for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST_FILE}")):
        store.delete(key)
    return len(keys) + 1
