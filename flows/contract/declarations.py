"""Whether what a method's module declares is sound: nothing is run for it."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from flows.contract.subject import CAPTURE_KIND, Subject
from flows.plan.sources import WEIGHTS
from models.errors import ReasonCode
from models.ladder import MOST_STEPS, Ladder
from models.record import Record
from models.resources import Resources
from models.spec import Preset
from models.stage import EVERY, Given, Stage
from models.weights import listed
from tasks import registry

_LADDERS = {ReasonCode.OUT_OF_MEMORY: "memory", ReasonCode.OUT_OF_DISK: "disk", ReasonCode.DEADLINE: "time"}

_CAPTURES = ((3, 0.1), (20, 2.0), (50, 12.0), (100, 12.0), (100, 48.0), (1000, 48.0))
"""Photos and their megapixels, each as large as the one before."""


def complaints(subject: Subject) -> Iterator[str]:
    """Everything that is wrong with the declarations of a method."""
    module = subject.module
    if not isinstance(module.VERSION, str) or not module.VERSION:
        yield f"VERSION: expected a string, found {module.VERSION!r}"
    yield from _options(module)
    if unknown := set(module.PRESETS) - {preset.value for preset in Preset}:
        yield f"PRESETS: expected names among preview, standard, high, found {', '.join(sorted(unknown))}"
    required = {name: value for name, value in subject.request.options.items() if _is_required(module, name)}
    for preset in Preset:
        try:
            options = registry.effective_options(subject.stage, subject.name, preset, required)
        except ValidationError as error:
            yield f"PRESETS[{preset.value}]: {error}"
            continue
        yield from _needs(module, options, preset)
        yield from _ladder(module, options, preset)
    yield from _names(subject)


def _is_required(module: ModuleType, name: str) -> bool:
    found = module.Options.model_fields.get(name)
    return found is not None and found.is_required()


def _options(module: ModuleType) -> Iterator[str]:
    kind = module.Options
    if not (isinstance(kind, type) and issubclass(kind, Record)):
        yield f"Options: expected a subclass of models.record.Record, found {kind!r}"
        return
    if not kind.model_config.get("frozen") or kind.model_config.get("extra") != "forbid":
        yield "Options: expected a frozen record that refuses unknown keys"
    explained: set[str] = set()
    for base in kind.__mro__:
        if base is not Record and issubclass(base, Record):
            explained |= _explained(base)
    for name in kind.model_fields:
        if name not in explained:
            yield f"Options.{name}: expected a docstring below the field, found none"


def _explained(kind: type) -> set[str]:
    """The fields of a class that have a docstring of their own."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = set()
    for before, after in itertools.pairwise(body):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and is_text:
            found.add(before.target.id)
    return found


def _needs(module: ModuleType, options: Record, preset: Preset) -> Iterator[str]:
    """Resources are a Resources; estimates are positive and never fall with more or larger photos."""
    if not isinstance(module.resources(options), Resources):
        yield f"resources({preset.value}): expected Resources"
    costs = [module.estimate(options, photos, megapixels) for photos, megapixels in _CAPTURES]
    if any(cost.seconds <= 0 or cost.memory_gb <= 0 for cost in costs):
        yield f"estimate({preset.value}): expected more than 0 seconds and GB, found {costs}"
    for one, other, more in zip(costs, costs[1:], _CAPTURES[1:], strict=False):
        if other.seconds < one.seconds or other.memory_gb < one.memory_gb:
            yield f"estimate({preset.value}): expected no less for {more[0]} photos of {more[1]:g} MP than for fewer"


def _ladder(module: ModuleType, options: Record, preset: Preset) -> Iterator[str]:
    """Each step is an option, gives valid options, and takes no more memory or time than the one before."""
    ladder = getattr(module, "LADDER", Ladder())
    for code, name in _LADDERS.items():
        values: dict[str, Any] = options.model_dump(mode="json")
        if unknown := sorted(set(getattr(ladder, name)) - set(values)):
            yield f"LADDER.{name}: expected options of the method, found {', '.join(unknown)}"
        for step in range(1, MOST_STEPS + 1):
            lowered = ladder.step_down(values, code)
            if not lowered:
                break
            try:
                smaller = module.Options.model_validate({**values, **lowered})
            except ValidationError as error:
                yield f"LADDER.{name}, step {step} from {preset.value}: {error}"
                break
            before, after = (_costs(module, each, name) for each in (module.Options(**values), smaller))
            falls = any(now < then for then, now in zip(before, after, strict=True))
            rises = any(now > then for then, now in zip(before, after, strict=True))
            if name != "disk" and (rises or not falls):
                yield f"LADDER.{name}, step {step} from {preset.value}: expected to take less {name}, found {after}"
            values = smaller.model_dump(mode="json")


def _names(subject: Subject) -> Iterator[str]:
    """Stages, kinds and inputs that it names are known."""
    module, stages = subject.module, {str(stage) for stage in registry.stages()}
    options = module.Options.model_validate(subject.request.options)
    reads = registry.inputs(subject.stage, module, options, CAPTURE_KIND)
    after = {str(each) for each in getattr(registry.stage_module(subject.stage), "AFTER", ())}
    for name in (*reads.required, *reads.optional):
        if name != EVERY and name not in stages:
            yield f"inputs: expected stages, found '{name}'"
        elif EVERY not in after and registry.position(name) >= registry.position(subject.stage):
            yield f"inputs: expected stages that come before {subject.stage}, found '{name}'"
    for name in registry.external(module, Given(CAPTURE_KIND, frozenset(subject.probe.given))):
        if name.startswith(WEIGHTS) and name.removeprefix(WEIGHTS) not in listed():
            yield f"EXTERNAL: expected weights of models/weights.txt, found '{name}'"
    outputs = registry.outputs(module)
    if subject.stage is Stage.TRAIN and not isinstance(outputs, str):
        yield f"OUTPUTS: expected the kind of representation, found {outputs!r}"
    for stage, kinds in getattr(module, "ACCEPTS", {}).items():
        if stage not in stages:
            yield f"ACCEPTS: expected stages, found '{stage}'"
            continue
        made = {registry.outputs(registry.method(Stage(stage), each)) for each in registry.methods(Stage(stage))}
        if not made & set(kinds):
            yield f"ACCEPTS: expected a kind that some method of {stage} hands on, found {', '.join(kinds)}"


def _costs(module: ModuleType, options: Record, what: str) -> list[float]:
    """What it is expected to take of `memory` or `time`, for each capture."""
    found = [module.estimate(options, photos, megapixels) for photos, megapixels in _CAPTURES]
    return [each.seconds if what == "time" else each.memory_gb for each in found]
