"""Read a batch specification from YAML; every error names the file's line and what was expected there."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from models.errors import DigitizeError, ReasonCode
from models.spec import PACKAGE, AssetSpec, BatchSpec

_MAX_BYTES = 16 << 20


class SpecFile:
    """A parsed specification that still knows its lines.

    Attributes:
        path: the file.
        spec: the validated batch.
    """

    def __init__(
        self, path: Path, spec: BatchSpec, root: yaml.Node, origins: Mapping[int, Sequence[str | int]] | None = None
    ) -> None:
        self.path = path
        self.spec = spec
        self._root = root
        self._origins = dict(origins or {})

    @property
    def folder(self) -> Path:
        """What relative paths in the specification start from."""
        return self.path.absolute().parent

    def with_assets(self, assets: Sequence[AssetSpec], origins: Sequence[Sequence[str | int]]) -> SpecFile:
        """The same file with further assets.

        Args:
            origins: the place, such as ("captures", 0), that each of them comes from; errors in it point there.
        """
        first = len(self.spec.assets)
        added = {first + number: origin for number, origin in enumerate(origins)}
        spec = self.spec.model_copy(update={"assets": (*self.spec.assets, *assets)})
        return SpecFile(self.path, spec, self._root, self._origins | added)

    def resolve(self, location: str) -> str:
        """A path of the specification as an absolute path; `s3://` and `package:` stay as they are."""
        if "://" in location or location.startswith(PACKAGE):
            return location
        return str((self.folder / Path(location).expanduser()).resolve())

    def line(self, where: Sequence[str | int]) -> int:
        """The line (from 1) of a place such as ("assets", 2, "photos"), or of its nearest parent that exists."""
        return _line(self._root, where)

    def error(
        self,
        where: Sequence[str | int],
        message: str,
        code: ReasonCode = ReasonCode.SPEC_INVALID,
        hint: str = "",
    ) -> DigitizeError:
        """An error that points at a place of this file."""
        where = self.place(where)
        return DigitizeError(code, f"{_dotted(where)}: {message}", hint, path=f"{self.path}:{self.line(where)}")

    def place(self, where: Sequence[str | int]) -> tuple[str | int, ...]:
        """A place as the file has it: a stage's only choice needs no list, but is read as one; an asset that was added
        stands where it comes from."""
        if len(where) > 1 and where[0] == "assets" and isinstance(where[1], int) and where[1] in self._origins:
            where = (*self._origins[where[1]], *where[2:])
        return _place(self._root, where)


def load_spec(path: Path) -> SpecFile:
    """Read and validate a specification.

    Raises DigitizeError(source_not_found) when there is no such file, and DigitizeError(spec_invalid) that lists
    every mistake with its line otherwise.
    """
    if not path.is_file():
        raise DigitizeError(
            ReasonCode.SOURCE_NOT_FOUND,
            "expected a batch specification (YAML), found no such file",
            hint="`digitize init` writes one for your photos.",
            path=str(path),
        )
    if path.stat().st_size > _MAX_BYTES:
        raise DigitizeError(ReasonCode.SPEC_INVALID, "expected at most 16 MB of YAML", path=str(path))
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise DigitizeError(ReasonCode.SPEC_INVALID, f"expected UTF-8 text: {error}", path=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        if "escape" in str(problem):
            problem = f"{problem}; in double quotes a backslash begins an escape: use single quotes, or /"
        raise DigitizeError(ReasonCode.SPEC_INVALID, f"expected YAML: {problem}", path=where) from error
    except RecursionError as error:
        message = "expected a specification, found brackets or indentation that is hundreds of levels deep"
        raise DigitizeError(ReasonCode.SPEC_INVALID, message, path=str(path)) from error
    if not isinstance(root, yaml.MappingNode):
        raise DigitizeError(
            ReasonCode.SPEC_INVALID, "expected keys such as `name:` and `assets:`, found none", path=f"{path}:1"
        )
    _refuse_aliases_and_duplicates(root, path)
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, RecursionError) as error:
        message = f"expected YAML, found a value that it cannot hold: {error}"
        raise DigitizeError(ReasonCode.SPEC_INVALID, message, path=str(path)) from error
    return SpecFile(path, _validate(data, root, path), root)


def _validate(data: Any, root: yaml.Node, path: Path) -> BatchSpec:
    try:
        return BatchSpec.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # pydantic also calls a list too short when its items are merely wrong
        found = [{**e, "loc": _place(root, e["loc"])} for e in found]
        found = [e for e in found if e["type"] != "too_short" or not any(_below(o["loc"], e["loc"]) for o in found)]
        lines = [f"line {_line(root, e['loc'])}: {_explain(e)}" for e in found]
        first = _line(root, found[0]["loc"])
        raise DigitizeError(ReasonCode.SPEC_INVALID, "\n".join(lines), path=f"{path}:{first}") from error


def _below(place: Sequence[str | int], parent: Sequence[str | int]) -> bool:
    return len(place) > len(parent) and tuple(place[: len(parent)]) == tuple(parent)


def explain_error(error: Any) -> str:
    """One pydantic error as `where: expected ..., found ...`."""
    return _explain(error)


def _explain(error: Any) -> str:
    where = _dotted(error["loc"])
    if (common := _common_mistake(error)) is not None:
        return f"{where}: {common}"
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    value = error.get("input")
    found = (
        f", found {value!r}"
        if isinstance(value, str | int | float | bool | type(None)) and "found" not in message
        else ""
    )
    return f"{where}: {message}{found}" if where else message


def _common_mistake(error: Any) -> str | None:
    """Mistakes that YAML invites, in words that say what to write."""
    kind, value = error["type"], error.get("input")
    fixed = {"extra_forbidden": "no such key; see docs/spec.md for the keys", "missing": "this key is required"}
    text = fixed.get(kind)
    if kind == "string_type" and (read_as := _read_as(value)):
        text = f"expected text, found what YAML reads as {read_as}: put it in quotes"
    elif kind == "string_type" and isinstance(value, list):
        text = f"expected one place, found a list of {len(value)}: put the parts into folders of one folder"
    elif kind in ("tuple_type", "list_type") and isinstance(value, dict):
        text = "expected a list, each entry with a dash (`- id: ...`), found keys"
    elif kind == "invalid_key":
        text = "expected keys that are words; a number with a decimal comma reads as two: write 0.12"
    return text


def _read_as(value: Any) -> str:
    """How YAML understood a scalar that was meant as text; empty for what nobody means as text."""
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()} (yes, no, on and off are such values)"
    if isinstance(value, int | float):
        return f"the number {value!r}"
    if isinstance(value, datetime.date):
        return f"the date {value.isoformat()}"
    return ""


def _dotted(where: Sequence[str | int]) -> str:
    text = ""
    for part in where:
        if _is_tag(part):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _is_tag(part: str | int) -> bool:
    """Whether a part of a place is pydantic's word for a key or for a choice, and stands nowhere in the file."""
    return isinstance(part, str) and part.startswith("[") and part.endswith("]")


def _place(root: yaml.Node, where: Sequence[str | int]) -> tuple[str | int, ...]:
    """A place without the numbers that the file has no list for, and without tags."""
    node: yaml.Node | None = root
    place: list[str | int] = []
    for part in where:
        if _is_tag(part):
            continue
        if isinstance(part, int) and node is not None and not isinstance(node, yaml.SequenceNode):
            continue
        found = None if node is None else _child(node, part)
        node = None if found is None else found[0]
        place.append(part)
    return tuple(place)


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, int] | None:
    """The child node and the line of its key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if str(key.value) == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        child = node.value[part]
        return child, child.start_mark.line + 1
    return None


def _line(node: yaml.Node, where: Sequence[str | int]) -> int:
    line = int(node.start_mark.line) + 1
    for part in where:
        found = _child(node, part)
        if found is None:
            break
        node, line = found
    return line


def _refuse_aliases_and_duplicates(root: yaml.Node, path: Path) -> None:
    """YAML that means something else than it says: repeated keys, and aliases that blow up."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen and not isinstance(node, yaml.ScalarNode):
            raise DigitizeError(
                ReasonCode.SPEC_INVALID,
                "expected plain YAML, found an alias (*name): write the part out",
                path=f"{path}:{node.start_mark.line + 1}",
            )
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if str(key.value) in keys:
                    raise DigitizeError(
                        ReasonCode.SPEC_INVALID,
                        f"expected each key once, found '{key.value}' twice",
                        path=f"{path}:{key.start_mark.line + 1}",
                    )
                keys.add(str(key.value))
                stack.append(value)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
