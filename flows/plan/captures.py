"""Captures that appear in a place: which are there, which are complete, and the assets they become."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from flows.plan.discover import slug
from flows.plan.scales import scale_mistake
from infra.storage import open_store
from models.digest import digest_of, sha256_bytes
from models.errors import DigitizeError, ReasonCode
from models.listing import is_own
from models.media import Kind, kind_of
from models.spec import AssetSpec, CaptureManifest, CaptureSource
from models.spec_yaml import SpecFile, load_spec
from models.store import Stat, Store

_READERS = 16
_DERIVED = re.compile("-[0-9a-f]{8}$")
"""Ends the ids of folders whose names are no ids."""


@dataclass(frozen=True)
class Capture:
    """One folder below a place, as it was when it was listed."""

    asset: str
    """The asset it becomes."""
    folder: str
    """Its name below the place."""
    uri: str
    source: CaptureSource
    stats: tuple[Stat, ...]
    """What lies in it; keys are relative to the folder."""
    manifest: CaptureManifest | None
    problem: str = ""
    """Why its manifest cannot be read; such a capture waits."""

    @property
    def digest(self) -> str:
        """Changes whenever anything in the capture does."""
        return digest_of([[stat.key, stat.bytes, stat.etag] for stat in self.stats])

    @property
    def photos(self) -> int:
        """Photos, videos and archives."""
        media = (Kind.PHOTO, Kind.RAW, Kind.VIDEO, Kind.ARCHIVE)
        return sum(stat.key != self.source.complete and kind_of(stat.key) in media for stat in self.stats)

    def missing(self) -> list[str]:
        """What the manifest lists and is not there, or not yet in full."""
        sizes = {stat.key: stat.bytes for stat in self.stats}
        listed = () if self.manifest is None else self.manifest.files
        return [file.path for file in listed if file.path not in sizes or file.bytes not in (None, sizes[file.path])]

    def is_complete(self, now: float) -> bool:
        """Whether its manifest says so and all it lists has arrived, or whether nothing of it moved for long.

        A clock that is wrong only starts a capture early or late: what arrives after the start is another content,
        and so another run.
        """
        if self.problem or not self.photos:
            return False
        if self.manifest is not None:
            return not self.missing()
        newest = max(stat.modified or now for stat in self.stats)
        return now - newest >= 60.0 * self.source.quiet_minutes


def asset_id(folder: str) -> str:
    """The id of the asset that a capture's folder becomes: its name where that is a valid id, and never another's."""
    plain = slug(folder)
    return plain if plain == folder else f"{plain[:90]}-{sha256_bytes(folder.encode())[:8]}"


def find_captures(spec_file: SpecFile, only: Iterable[str] = ()) -> list[Capture]:
    """The captures at the places of a specification, in the order of their places and names.

    Args:
        only: assets to look for; all when empty.

    Raises DigitizeError(store_unreachable) when a place cannot be listed. A local folder that is not there is empty.
    """
    wanted = set(only)
    found = []
    for source in spec_file.spec.captures:
        store = open_store(spec_file.resolve(source.under))
        for folder, stats in _folders(store, wanted, _own_folders(spec_file, store.uri)).items():
            if not wanted or asset_id(folder) in wanted:
                found.append((store, folder, source, stats))
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda each: _look_at(*each), found))


def _look_at(store: Store, folder: str, source: CaptureSource, stats: list[Stat]) -> Capture:
    """One capture with its manifest."""
    manifest, problem = None, ""
    if any(stat.key == source.complete for stat in stats):
        try:
            manifest = CaptureManifest.model_validate_json(store.get_bytes(f"{folder}/{source.complete}") or b"")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            problem = f"{source.complete}: {place + ': ' if place else ''}{first['msg']}"
        mistake = None if manifest is None or manifest.scale is None else scale_mistake(manifest.scale)
        if mistake:
            manifest, problem = None, f"{source.complete}: {mistake}"
    return Capture(asset_id(folder), folder, f"{store.uri}/{folder}", source, tuple(stats), manifest, problem)


def _own_folders(spec_file: SpecFile, place: str) -> frozenset[str]:
    """The folders directly below a place that the specification itself writes."""
    spec = spec_file.spec
    own = [spec_file.resolve(each) for each in (spec.store, *(target.to for target in spec.publish))]
    below = f"{place.rstrip('/')}/"
    return frozenset(each.removeprefix(below).split("/")[0] for each in own if each.startswith(below))


def _folders(store: Store, wanted: set[str], own: frozenset[str]) -> dict[str, list[Stat]]:
    """The folders directly below a place with what lies in each; of `wanted` assets alone where names allow that.

    One listing of all: on S3 that is a request for each thousand objects, whatever number of folders they are in.
    """
    plain = not any(_DERIVED.search(each) for each in wanted)
    prefixes = [f"{each}/" for each in sorted(wanted)] if wanted and plain else [""]
    found: dict[str, list[Stat]] = {}
    for prefix in prefixes:
        for stat in store.list(prefix):
            folder, _, key = stat.key.partition("/")
            local = store.local_path(folder)
            if not key or folder in own or folder.startswith("_") or (local is not None and is_own(local)):
                continue  # a file beside the captures, or what digitize writes, or a transfer that is under way
            if kind_of(stat.key) not in (Kind.SYSTEM, Kind.UNFINISHED):
                found.setdefault(folder, []).append(stat._replace(key=key))
    return found


def as_asset(capture: Capture) -> AssetSpec:
    """What to digitize: the place's choices, with the manifest's own on top."""
    source, manifest = capture.source, capture.manifest or CaptureManifest()
    return AssetSpec(
        id=capture.asset,
        photos=capture.uri,
        scale=manifest.scale or source.scale,
        preset=manifest.preset or source.preset,
        capture_kind=manifest.capture_kind or source.capture_kind,
        stages=source.stages,
        gates=source.gates,
    )


def example_of(number: int, source: CaptureSource) -> AssetSpec:
    """What a capture at a place would become, for checking the place's choices before anything is there."""
    return as_asset(Capture(f"captures-{number}", "", source.under, source, (), None))


@dataclass(frozen=True)
class Gathered:
    """A specification with the captures of its places, and those that are not complete yet."""

    spec_file: SpecFile
    waiting: tuple[Capture, ...]


def gather(spec_file: SpecFile, only: Iterable[str] = (), clock: Callable[[], float] = time.time) -> Gathered:
    """Add the complete captures of a specification's places to its assets.

    Raises DigitizeError(spec_invalid) when a capture would become an asset that the specification names itself, or
    that another place has too.
    """
    if not spec_file.spec.captures:
        return Gathered(spec_file, ())
    taken = {asset.id for asset in spec_file.spec.assets}
    ready: list[Capture] = []
    waiting: list[Capture] = []
    for capture in find_captures(spec_file, only):
        if capture.asset in taken:
            message = f"expected each asset id once, found another '{capture.asset}' at {capture.uri}"
            raise spec_file.error(("captures",), message)
        taken.add(capture.asset)
        (ready if capture.is_complete(clock()) else waiting).append(capture)
    places = [("captures", spec_file.spec.captures.index(capture.source)) for capture in ready]
    return Gathered(spec_file.with_assets([as_asset(capture) for capture in ready], places), tuple(waiting))


def load_batch(path: Path, only: Iterable[str] = ()) -> SpecFile:
    """Read a specification, its places' complete captures among the assets. Raises DigitizeError as `load_spec` does,
    and DigitizeError(source_empty) when that leaves no asset at all."""
    gathered = gather(load_spec(path), only)
    if not gathered.spec_file.spec.assets:
        waiting = len(gathered.waiting)
        raise DigitizeError(
            ReasonCode.SOURCE_EMPTY,
            f"expected complete captures in the places under `captures:`, found {waiting} that are not complete",
            "A capture is complete when its manifest object is there; see docs/operations.md.",
            path=str(path),
        )
    return gathered.spec_file
