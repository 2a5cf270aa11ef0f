"""Every mistake of a specification at once, each with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from flows.plan.captures import example_of
from flows.plan.chains import resolve, stage_mistakes
from flows.plan.committed import Chain
from flows.plan.photo_names import unknown_names
from flows.plan.sources import check_place, check_raw_reader, given_places, network_ref
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from models.listing import list_folder
from models.spec import PACKAGE, AssetSpec
from models.spec_yaml import SpecFile, load_spec
from tasks.mask.options import NETWORK

_LINE = re.compile(r"line (\d+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Mistake:
    """One thing to correct."""

    code: ReasonCode
    message: str
    path: str
    line: int | None


@dataclass(frozen=True)
class Checked:
    """A specification and everything that is wrong with it."""

    spec_file: SpecFile | None
    """None when the file could not be read at all."""
    stages: dict[str, list[Chain]]
    """The stages of each asset, once for each choice of methods; none for assets with mistakes."""
    mistakes: tuple[Mistake, ...]


def check_spec(path: Path) -> Checked:
    """Read a specification and resolve all of it, collecting mistakes instead of stopping at the first."""
    try:
        spec_file = load_spec(path)
    except DigitizeError as error:
        return Checked(None, {}, tuple(mistakes_of(error)))
    mistakes: dict[tuple[str, int | None, str], Mistake] = {}
    resolved: dict[str, list[Chain]] = {}

    def note(error: DigitizeError) -> None:
        for mistake in mistakes_of(error):
            mistakes.setdefault((mistake.path, mistake.line, mistake.message), mistake)

    given = len(spec_file.spec.assets)
    # Places have no assets yet: what one of theirs would be shows every mistake that they would have
    with_examples = spec_file.with_assets(
        [example_of(number, each) for number, each in enumerate(spec_file.spec.captures)],
        [("captures", number) for number in range(len(spec_file.spec.captures))],
    )
    for index, asset in enumerate(with_examples.spec.assets):
        found = list(stage_mistakes(with_examples, index, asset))
        for mistake in found:
            note(mistake)
        resolved[asset.id] = [] if found else resolve(with_examples, index, asset)
        lost = _missing_sources(spec_file, index, asset) if index < given else []
        for missing in lost or (unknown_names(spec_file, index, asset) if index < given else ()):
            note(missing)
    ordered = sorted(mistakes.values(), key=lambda mistake: (mistake.path, mistake.line or 0))
    return Checked(spec_file, resolved, tuple(ordered))


def mistakes_of(error: DigitizeError) -> list[Mistake]:
    """The single mistakes that an error about a specification lists, one `line N: ...` each."""
    path, _, number = (error.path or "").rpartition(":")
    if not number.isdigit():
        path, number = error.path or "", ""
    found = []
    for text in error.message.splitlines():
        match = _LINE.fullmatch(text)
        if match:
            found.append(Mistake(error.code, match[2], path, int(match[1])))
        elif found:
            last = found.pop()
            found.append(Mistake(last.code, f"{last.message}\n{text}", last.path, last.line))
        else:
            found.append(Mistake(error.code, text, path, int(number) if number else None))
    return found


def _missing_sources(spec_file: SpecFile, index: int, asset: AssetSpec) -> list[DigitizeError]:
    """Paths of an asset that lead nowhere, and a network for masks with another sha256. Nothing else is read: hashing
    all photos belongs to the run."""
    errors = []
    for name, (location, where) in given_places(asset).items():
        if location.startswith(PACKAGE):
            continue
        if name == NETWORK and asset.mask_network:
            try:
                network_ref(spec_file.resolve(location), asset.mask_network.sha256)
            except DigitizeError as error:
                errors.append(spec_file.error(("assets", index, *where), error.message, error.code, error.hint))
            continue
        uri = spec_file.resolve(location)
        try:
            check_place(uri, photos=name == "photos")
            there = _exists(uri)
        except DigitizeError as error:
            errors.append(spec_file.error(("assets", index, *where), error.message, error.code, error.hint))
            continue
        if not there:
            message = f"expected a folder or file, found {_nothing(spec_file, location)} at {uri}"
            errors.append(spec_file.error(("assets", index, *where), message, ReasonCode.SOURCE_NOT_FOUND))
        elif Path(uri).is_dir() and not any(Path(uri).iterdir()):
            message = f"expected at least one file, found none in {uri}"
            errors.append(spec_file.error(("assets", index, *where), message, ReasonCode.SOURCE_EMPTY))
        elif name == "photos":
            try:
                check_raw_reader(_names(uri))
            except DigitizeError as error:
                errors.append(spec_file.error(("assets", index, *where), error.message, error.code, error.hint))
    return errors


def _names(uri: str) -> list[str]:
    """The names of the photos in a local folder; none for other places."""
    try:
        return [each.path for each in list_folder(Path(uri)).files] if Path(uri).is_dir() else []
    except OSError:
        return []  # the plan says so


def _nothing(spec_file: SpecFile, location: str) -> str:
    dead = "://" not in location and (spec_file.folder / Path(location).expanduser()).is_symlink()
    return "a link to nothing" if dead else "nothing"


def _exists(uri: str) -> bool:
    if uri.startswith("s3://"):
        return next(iter(open_store(uri).list("")), None) is not None
    return Path(uri).exists()
