"""Find stages and methods: those in this tree by their files, installed ones by entry points.

A **stage** is a module `tasks/<stage>/task.py`, or an entry point `<stage>` of the group `digitize.stages`. It holds,
importable without torch, pycolmap or open3d:

    def run(request: StageRequest, context: Context) -> StageResult
    AFTER: tuple[str, ...]                         stages whose results it may read; they come before it
    REFINES: tuple[str, ...]                       those of them whose files its own replace: it comes before every
                                                   other reader of these, which then reads it as well; none by default
    DEFAULT_METHOD: str, or default_method(given: Given) -> str; the stage's own name by default
    def inputs(options, capture_kind) -> Inputs    what its methods read unless they say otherwise; all of AFTER is
                                                   required by default
    def is_wanted(asset: AssetSpec) -> bool        whether it runs for an asset although no stage
                                                   needs it; no by default
    def implied_options(asset: AssetSpec, batch: BatchSpec, resolve) -> dict
                                                   options that follow from other keys of the specification
    OF_INPUT: dict[str, str]                       those of them that say how to read an input: for methods that read it
    IF_KNOWN: tuple[str, ...]                      those of them that matter only to methods that have such an option
    METRICS: tuple[str, ...], or METRICS() -> tuple[str, ...]
                                                   what its methods may report as metrics, for gates
    SPEC_KEY: str                                  the key of an asset whose `kind` is its method and whose other keys
                                                   are the method's options, instead of `stages` (`scale`)

A **method** is a module `tasks/<stage>/methods/<name>.py`, or an entry point `<name>` of the group
`digitize.<stage>`. A stage in a single module is its own only method. It holds:

    VERSION: str                                   raised whenever the same options give another result
    class Options(Record)                          frozen, each field with a docstring that says when to change it
    PRESETS: dict[str, dict[str, object]]          option values of `preview`, `standard`, `high`
    def resources(options: Options) -> Resources
    def estimate(options: Options, photos: int, megapixels: float) -> Estimate
    LADDER: models.ladder.Ladder                   smaller settings to fall back on; none when it is left out
    def inputs(options, capture_kind) -> Inputs    the stages that it reads; its stage's when left out
    EXTERNAL: tuple[str, ...]                      what it reads of what the user gave (photos, masks, poses, truth,
                                                   names under `inputs`), and `weights:<name>` of weights.txt; or
                                                   external(given: Given) -> tuple[str, ...]
    METRICS                                        as its stage's: what it may report besides
    OUTPUTS: str                                   the kind of what it hands on, where its readers must fit
    ACCEPTS: dict[str, tuple[str, ...]]            the OUTPUTS that it can read, by stage; any where left out
    photo_names(options) -> Iterator               the photos that its options name, and their places below SPEC_KEY:
                                                   `validate` looks for them; none where left out
    FILLED_IN: tuple[str, ...]                     options that the flow fills in (`stepped_down`, `rejected`)

and the function that its stage's `run` calls. Heavy imports belong inside that function.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import tasks
from models.errors import DigitizeError, ReasonCode
from models.installed import entry_points
from models.record import Record
from models.spec import AssetSpec
from models.stage import EVERY, Given, Inputs, Stage

STAGE_ENTRY_POINTS = "digitize.stages"
_METHOD_NEEDS = ("VERSION", "Options", "PRESETS", "resources", "estimate")


@cache
def stages() -> tuple[Stage, ...]:
    """All stages, built in and installed, in the order of the line. Raises DigitizeError(spec_invalid) when the order
    is not possible."""
    return _in_order(sorted({*_built_in_stages(), *_installed_stages()}))


def position(stage: str) -> int:
    """Where a stage comes in the line; stages that are not installed any more come last."""
    known = stages()
    return known.index(Stage(stage)) if Stage(stage) in known else len(known)


@cache
def stage_module(stage: Stage) -> ModuleType:
    """The module of a stage. Raises DigitizeError(not_built_yet) with the known names when there is none."""
    for entry in entry_points(STAGE_ENTRY_POINTS, str(stage)):
        module = entry.load()
        if isinstance(module, ModuleType):
            return module
    if stage not in _built_in_stages():
        known = ", ".join(stages())
        raise DigitizeError(ReasonCode.NOT_BUILT_YET, f"expected one of the stages {known}, found '{stage}'")
    return importlib.import_module(f"tasks.{stage}.task")


def is_built_in(stage: Stage) -> bool:
    """Whether a stage comes with this distribution."""
    return stage in _built_in_stages()


def refiners(stage: Stage) -> tuple[Stage, ...]:
    """The stages whose files replace those of `stage`, in order."""
    return tuple(each for each in stages() if stage in _refines(each))


def methods(stage: Stage) -> tuple[str, ...]:
    """The names of all methods of a stage, built in and installed, sorted."""
    installed = {entry.name for entry in entry_points(f"digitize.{stage}")}
    own = set() if _has_methods(stage) else {str(stage)}
    built_in: set[str] = set()
    if _has_methods(stage):
        package = importlib.import_module(f"tasks.{stage}.methods")
        built_in = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    return tuple(sorted(built_in | installed | (own if not installed else set())))


def method(stage: Stage, name: str) -> ModuleType:
    """The module of a method.

    Raises DigitizeError(not_built_yet) with the known names when there is none, and DigitizeError(missing_dependency)
    when an installed one is incomplete.
    """
    for entry in entry_points(f"digitize.{stage}", name):
        module = entry.load()
        if isinstance(module, ModuleType):
            return _complete(module, stage, name)
    if name not in methods(stage):
        known = ", ".join(methods(stage))
        raise DigitizeError(
            ReasonCode.NOT_BUILT_YET, f"expected a {stage} method that is built ({known}), found '{name}'"
        )
    if not _has_methods(stage):
        return _complete(stage_module(stage), stage, name)
    return importlib.import_module(f"tasks.{stage}.methods.{name}")


def default_method(stage: Stage, given: Given) -> str:
    """The method of a stage for which nobody chose one."""
    module = stage_module(stage)
    chosen = getattr(module, "default_method", None)
    name: str = chosen(given) if chosen is not None else getattr(module, "DEFAULT_METHOD", str(stage))
    return name


def spec_key(stage: Stage) -> str | None:
    """The key of an asset that chooses the stage's method and holds its options; None where `stages` does."""
    found: str | None = getattr(stage_module(stage), "SPEC_KEY", None)
    return found


def is_wanted(stage: Stage, asset: AssetSpec) -> bool:
    """Whether a stage runs for an asset although no other stage requires it, as the stage itself decides."""
    decide = getattr(stage_module(stage), "is_wanted", None)
    return decide is not None and bool(decide(asset))


def effective_options(stage: Stage, name: str, preset: str, overrides: dict[str, Any]) -> Record:
    """The method's options: its defaults, then the preset's values, then the overrides.

    Raises pydantic.ValidationError on unknown or ill-typed options.
    """
    module = method(stage, name)
    options: Record = module.Options.model_validate({**module.PRESETS.get(preset, {}), **overrides})
    return options


def inputs(stage: Stage, module: ModuleType, options: Record, capture_kind: str) -> Inputs:
    """The stages that a method reads, as it declares them."""
    declared = getattr(module, "inputs", None) or getattr(stage_module(stage), "inputs", None)
    if declared is None:
        return Inputs(required=tuple(_after(stage)))
    found: Inputs = declared(options, capture_kind)
    return found


def is_available(stage: Stage, name: str) -> bool:
    """Whether this machine has what a method's module says that it needs (`is_available`)."""
    return bool(getattr(method(stage, name), "is_available", lambda: True)())


def metrics(stage: Stage, module: ModuleType) -> tuple[str, ...]:
    """The names of what a stage with this method may report as metrics."""
    declared = [getattr(each, "METRICS", ()) for each in dict.fromkeys((stage_module(stage), module))]
    return tuple(name for each in declared for name in (each() if callable(each) else each))


def outputs(module: ModuleType) -> str | None:
    """The kind of what a method hands on, where it declares one."""
    found: str | None = getattr(module, "OUTPUTS", None)
    return found


def external(module: ModuleType, given: Given) -> tuple[str, ...]:
    """The names of what a method reads of what the user gave."""
    decide = getattr(module, "external", None)
    return tuple(getattr(module, "EXTERNAL", ()) if decide is None else decide(given))


def clear() -> None:
    """Forget what is installed: for processes in which packages appear while they run."""
    for cached in (stages, stage_module, _built_in_stages):
        cached.cache_clear()


@cache
def _built_in_stages() -> frozenset[Stage]:
    folders = [each.name for each in pkgutil.iter_modules(tasks.__path__) if each.ispkg]
    return frozenset(Stage(name) for name in folders if importlib.util.find_spec(f"tasks.{name}.task") is not None)


def _installed_stages() -> Iterable[Stage]:
    return {Stage(entry.name) for entry in entry_points(STAGE_ENTRY_POINTS)}


def _has_methods(stage: Stage) -> bool:
    return is_built_in(stage) and importlib.util.find_spec(f"tasks.{stage}.methods") is not None


def _complete(module: ModuleType, stage: Stage, name: str) -> ModuleType:
    if missing := [each for each in _METHOD_NEEDS if not hasattr(module, each)]:
        message = f"expected {', '.join(missing)} in method '{name}' of stage {stage}, found none"
        hint = "docs/extending.md lists what a method holds."
        raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message, hint, path=getattr(module, "__file__", None))
    return module


def _after(stage: Stage) -> tuple[str, ...]:
    return tuple(getattr(stage_module(stage), "AFTER", ()))


def _refines(stage: Stage) -> tuple[Stage, ...]:
    return tuple(Stage(each) for each in getattr(stage_module(stage), "REFINES", ()))


def _in_order(names: list[Stage]) -> tuple[Stage, ...]:
    """Stages so that each comes after those it names; a refining one before all other readers of what it refines."""
    before: dict[Stage, set[Stage]] = {}
    for name in names:
        unknown = [each for each in _after(name) if each != EVERY and Stage(each) not in names]
        if unknown:
            message = f"stage {name} comes after {', '.join(unknown)}, which is not installed"
            raise DigitizeError(ReasonCode.MISSING_DEPENDENCY, message)
        before[name] = {Stage(each) for each in _after(name) if each != EVERY}
    read = {name: frozenset(found) for name, found in before.items()}
    for name in names:
        for refined in _refines(name):
            for reader in names:
                sibling = reader is name or refined in _refines(reader)
                if refined in read[reader] and not sibling and reader not in _closure(read, name):
                    before[reader].add(name)
    for name in names:
        if EVERY in _after(name):
            later = {each for each in names if name in _closure(before, each)}
            before[name] |= {each for each in names if each is not name and each not in later}
    ordered: list[Stage] = []
    while len(ordered) < len(names):
        ready = [name for name in names if name not in ordered and before[name] <= set(ordered)]
        if not ready:
            stuck = ", ".join(name for name in names if name not in ordered)
            raise DigitizeError(
                ReasonCode.SPEC_INVALID, f"expected stages that can be ordered, found a circle: {stuck}"
            )
        ordered.append(ready[0])
    return tuple(ordered)


def _closure(before: Mapping[Stage, Iterable[Stage]], name: Stage) -> set[Stage]:
    """Everything that comes before a stage, directly or not."""
    found: set[Stage] = set()
    waiting = list(before[name])
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += before[each]
    return found
