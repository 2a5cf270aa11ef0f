"""Find a stage's method by its file's name, or by entry point.

A method is a module `tasks/<stage>/methods/<name>.py` (or an entry point `name` in the group
`digitize.<stage>`) that holds, importable without torch, pycolmap or open3d:

    VERSION: str                                   raised whenever the same options give another result
    class Options(Record)                          frozen, each field with a docstring that says when to change it
    PRESETS: dict[str, dict[str, object]]          option values of `preview`, `standard`, `high`
    def resources(options: Options) -> Resources
    def estimate(options: Options, photos: int, megapixels: float) -> Estimate
    LADDER: models.ladder.Ladder                   smaller settings to fall back on; none when it is left out

and the function that its stage's `task.py` calls. Heavy imports belong inside that function.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from types import ModuleType
from typing import Any

from models.errors import DigitizeError, ReasonCode
from models.record import Record
from models.results import Stage

DEFAULT_METHODS: dict[Stage, str] = {
    Stage.INGEST: "photos",
    Stage.POSE: "colmap",
    Stage.TRAIN: "hash_density",
    Stage.SURFACE: "isosurface",
    Stage.QUALITY: "standard",
    Stage.PUBLISH: "versioned",
}


def methods(stage: Stage) -> tuple[str, ...]:
    """The names of all methods of a stage, built in and installed, sorted."""
    package = importlib.import_module(f"tasks.{stage}.methods")
    built_in = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    installed = {entry.name for entry in importlib.metadata.entry_points(group=f"digitize.{stage}")}
    return tuple(sorted(built_in | installed))


def method(stage: Stage, name: str) -> ModuleType:
    """The module of a method. Raises DigitizeError(not_built_yet) with the known names when there is none."""
    for entry in importlib.metadata.entry_points(group=f"digitize.{stage}", name=name):
        module = entry.load()
        if isinstance(module, ModuleType):
            return module
    if name not in methods(stage):
        known = ", ".join(methods(stage))
        raise DigitizeError(
            ReasonCode.NOT_BUILT_YET, f"expected a {stage} method that is built ({known}), found '{name}'"
        )
    return importlib.import_module(f"tasks.{stage}.methods.{name}")


def effective_options(stage: Stage, name: str, preset: str, overrides: dict[str, Any]) -> Record:
    """The method's options: its defaults, then the preset's values, then the overrides.

    Raises pydantic.ValidationError on unknown or ill-typed options.
    """
    module = method(stage, name)
    options: Record = module.Options.model_validate({**module.PRESETS.get(preset, {}), **overrides})
    return options
