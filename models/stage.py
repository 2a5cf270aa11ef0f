"""What a stage is called, what a method reads of other stages, and what a choice of methods may depend on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_known: dict[str, Stage] = {}

EVERY = "*"
"""Among a stage's names of other stages: all that do not come after it."""


class Stage(str):
    """The name of a stage. Equal names are one object, so `is` compares them. `tasks.registry` knows which stages there
    are and in which order they come.

    Raises ValueError for names that could not be a folder or a Python module.
    """

    INGEST: ClassVar[Stage]
    POSE: ClassVar[Stage]
    MASK: ClassVar[Stage]
    DENSE: ClassVar[Stage]
    TRAIN: ClassVar[Stage]
    SURFACE: ClassVar[Stage]
    SCALE: ClassVar[Stage]
    EXPORT: ClassVar[Stage]
    QUALITY: ClassVar[Stage]
    PUBLISH: ClassVar[Stage]

    __slots__ = ()

    def __new__(cls, name: str) -> Stage:
        if name not in _known:
            if not _NAME.fullmatch(name):
                raise ValueError(f"expected the name of a stage (a-z, 0-9 and _), found {name!r}")
            _known[str(name)] = super().__new__(cls, name)
        return _known[name]

    def __reduce__(self) -> tuple[type[Stage], tuple[str]]:
        return Stage, (str(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(), serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


for _name in ("ingest", "pose", "mask", "dense", "train", "surface", "scale", "export", "quality", "publish"):
    setattr(Stage, _name.upper(), Stage(_name))


class Inputs(NamedTuple):
    """The stages whose results a method reads."""

    required: tuple[str, ...] = ()
    """They run because this method does."""
    optional: tuple[str, ...] = ()
    """Read if they run for another reason; `EVERY` for all that come before."""


@dataclass(frozen=True)
class Given:
    """What the choice of a stage's default method may depend on."""

    capture_kind: str
    external: frozenset[str] = frozenset()
    """Names of what the user gave: photos, masks, poses, truth, ..."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """What the chosen methods of the stages before hand on, by stage, where they declare it."""
    masks: str = "auto"
    """Where masks come from: `given`, `network`, `auto`, `geometry` or `none`."""
    scale: str = "none"
    """The kind of scale that the specification asks for."""
