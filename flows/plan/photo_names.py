"""Names of photos that a specification refers to, against the photos that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from flows.plan.sources import other_places
from infra.storage import open_store
from models.colour import GreyColour, photo_of
from models.errors import DigitizeError, ReasonCode
from models.listing import list_folder, list_keys
from models.media import Kind, kind_of
from models.spec import AssetSpec
from models.spec_yaml import SpecFile
from models.stage import Stage
from tasks import registry
from tasks.ingest.archive import list_archive
from tasks.ingest.sources import named_by, names_of, no_such_photo

Place = tuple[str | int, ...]


def unknown_names(spec_file: SpecFile, index: int, asset: AssetSpec) -> Iterator[DigitizeError]:
    """Names of photos in an asset's specification that no photo has: each with its line and the nearest names.

    Sources whose photos cannot be told yet (videos, archives on S3) say nothing.
    """
    wanted = dict(_wanted(asset))
    if not wanted and not asset.alignment_only:
        return
    paths = photo_paths(spec_file, asset)
    if paths is None:
        return
    known = names_of(paths)
    for name, place in wanted.items():
        if name not in known:
            hint = "Write the name as the photo's file has it: letters' case counts."
            yield spec_file.error(("assets", index, *place), no_such_photo(name, known), ReasonCode.SPEC_INVALID, hint)
    for number, pattern in enumerate(asset.alignment_only):
        if not named_by(pattern, paths):
            place = ("assets", index, "alignment_only", number)
            hint = "Write a photo's name as its file has it, or a pattern: `bar_*.jpg`, `context/*`."
            yield spec_file.error(place, no_such_photo(pattern, known), ReasonCode.SPEC_INVALID, hint)


def photo_paths(spec_file: SpecFile, asset: AssetSpec) -> tuple[str, ...] | None:
    """The paths of an asset's photos in their source; None where they cannot be told without reading it."""
    uri = spec_file.resolve(asset.photos)
    if "://" in uri:
        found = [each.path for each in list_keys(stat.key for stat in open_store(uri).list("")).files]
    elif Path(uri).is_dir():
        excluded = other_places(spec_file, asset).get("photos", {})
        found = [each.path for each in list_folder(Path(uri), excluded).files]
    elif kind_of(Path(uri).name) is Kind.ARCHIVE and Path(uri).is_file():
        found = [each.path for each in list_keys(list_archive(Path(uri)) or ()).files]
    else:
        return None
    photos = tuple(path for path in found if kind_of(path) in (Kind.PHOTO, Kind.RAW))
    return photos or None


def _wanted(asset: AssetSpec) -> Iterator[tuple[str, Place]]:
    """The names that an asset's colours and its kind of scale refer to, with their places below the asset."""
    if asset.colour is not None:
        kind = "grey" if isinstance(asset.colour, GreyColour) else "chart"
        yield photo_of(asset.colour), ("colour", kind, "photo")
    try:
        module = registry.method(Stage.SCALE, asset.scale.kind)
        options = module.Options.model_validate(asset.scale.keys)
    except (DigitizeError, ValidationError):
        return  # told by the stages' own check
    refers = getattr(module, "photo_names", None)
    for name, place in refers(options) if refers else ():
        yield name, ("scale", *place)
