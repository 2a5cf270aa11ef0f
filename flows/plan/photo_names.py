"""Names of photos that a specification refers to, against the photos that are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from flows.plan.sources import other_places
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from models.listing import list_folder, list_keys
from models.media import Kind, kind_of
from models.spec import AssetSpec
from models.spec_yaml import SpecFile
from models.stage import Stage
from tasks import registry
from tasks.ingest.archive import list_archive
from tasks.ingest.sources import unique_names

_NEAREST = 3
Place = tuple[str | int, ...]


def unknown_names(spec_file: SpecFile, index: int, asset: AssetSpec) -> Iterator[DigitizeError]:
    """Names of photos in an asset's specification that no photo has: each with its line and the nearest names.

    Sources whose photos cannot be told yet (videos, archives on S3) say nothing.
    """
    wanted = dict(_wanted(asset))
    if not wanted:
        return
    paths = photo_paths(spec_file, asset)
    if paths is None:
        return
    known = names_of(paths)
    for name, place in wanted.items():
        if name not in known:
            message = f"expected a photo of the capture, found '{name}', which is none; {nearest(name, known)}"
            hint = "Write the name as the photo's file has it: letters' case counts."
            yield spec_file.error(("assets", index, *place), message, ReasonCode.SPEC_INVALID, hint)


def names_of(paths: Iterable[str]) -> dict[str, str]:
    """Every name by which a photo may be called -> its path: the path, the name in the capture, and a base name that
    occurs once."""
    listed = tuple(paths)
    bases = [PurePosixPath(path).name for path in listed]
    single = {base: path for base, path in zip(bases, listed, strict=True) if bases.count(base) == 1}
    return single | dict(zip(unique_names(listed), listed, strict=True)) | {path: path for path in listed}


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    listed = sorted(known)
    if same := [each for each in listed if each.casefold() == name.casefold()]:
        return f"there is {same[0]}"
    folded = {each.casefold(): each for each in listed}
    found = get_close_matches(name.casefold(), list(folded), _NEAREST, 0.6)
    near = [folded[each] for each in found] or listed[:_NEAREST]
    return f"the nearest are {', '.join(near)}" if near else "there are no photos"


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
    """The names that the asset's kind of scale refers to, with their places below the asset."""
    try:
        module = registry.method(Stage.SCALE, asset.scale.kind)
        options = module.Options.model_validate(asset.scale.keys)
    except (DigitizeError, ValidationError):
        return  # told by the stages' own check
    refers = getattr(module, "photo_names", None)
    for name, place in refers(options) if refers else ():
        yield name, ("scale", *place)
