"""Which stages run for an asset, with which methods: choices, defaults, what each needs, and whether it all fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from flows.plan.committed import Chain, StagePlan
from flows.plan.sources import Place, given_places
from models.capture_kind import CAPTURE_KINDS
from models.errors import DigitizeError, ReasonCode
from models.ladder import Ladder
from models.quality import Gate
from models.record import Record
from models.resources import Resources
from models.spec import AssetSpec, Scale, StageChoice
from models.spec_yaml import SpecFile, explain_error
from models.stage import EVERY, Given, Inputs, Stage
from tasks import registry

GOAL = Stage.PUBLISH
"""What a run is for: stages run because this one needs them, or because the specification names them."""
MOST_CHAINS = 16
"""Choices of methods that an asset may have."""


@dataclass(frozen=True)
class _Choice:
    """One way to run a stage, as the specification has it."""

    method: str | None
    options: dict[str, Any]
    timeout_s: float | None
    place: Place
    """Where an error points to."""
    has_own_key: bool = False
    """Whether the place is a key of the asset that holds the method, as its `kind`, and the options."""

    @property
    def method_place(self) -> Place:
        """Where an error about the method points to."""
        return (*self.place, "kind" if self.has_own_key else "method")

    @property
    def options_place(self) -> Place:
        """Where an error about the options points to."""
        return self.place if self.has_own_key else (*self.place, "options")


@dataclass(frozen=True)
class _Resolved:
    """A stage with its method and options."""

    module: ModuleType
    options: Record
    plan: StagePlan
    place: Place
    """Where an error about the method points to."""


def resolve(spec_file: SpecFile, index: int, asset: AssetSpec) -> list[Chain]:
    """The stages of the asset at `index`, once for each choice of methods, in the order in which they are tried.

    The last stage with several methods varies first: what is committed before it is used again.

    Raises DigitizeError(spec_invalid or not_built_yet) with file and line; see `plan_batch`.
    """
    _check_stages(spec_file, index, asset)
    choices = {stage: _choices(spec_file, index, asset, stage) for stage in registry.stages()}
    chains: list[Chain] = []
    for number, combination in enumerate(product(*choices.values())):
        if number == MOST_CHAINS:
            message = f"expected at most {MOST_CHAINS} combinations of methods, found more"
            raise spec_file.error(("assets", index), message)
        chosen = dict(zip(choices, combination, strict=True))
        chain = _chain(spec_file, index, asset, chosen)
        if chain not in chains:
            chains.append(chain)
    _check_given(spec_file, index, asset, chains)
    _check_gates(spec_file, index, asset, chains)
    # where there is another choice, one that would only fail is left out
    return [chain for chain in chains if _can_run(chain)] or chains[:1]


def _can_run(chain: Chain) -> bool:
    return all(registry.is_available(stage, each.method) for stage, each in chain.items())


def resolve_stage(
    spec_file: SpecFile, index: int, asset: AssetSpec, choice: _Choice, stage: Stage, given: Given
) -> _Resolved:
    """One stage with one choice. Raises DigitizeError with file and line."""
    try:
        name = choice.method or registry.default_method(stage, given)
        module = registry.method(stage, name)
        overrides = {**_implied(spec_file, asset, stage, module, given), **choice.options}
        options = registry.effective_options(stage, name, asset.preset or spec_file.spec.preset, overrides)
    except ValidationError as error:
        raise _options_error(spec_file, choice.options_place, error) from error
    except DigitizeError as error:
        raise spec_file.error(choice.method_place, error.message, error.code) from error
    resources: Resources = module.resources(options)
    if choice.timeout_s:
        resources = resources.model_copy(update={"timeout_s": choice.timeout_s})
    plan = StagePlan(
        stage,
        name,
        module.VERSION,
        options.model_dump(mode="json"),
        resources,
        getattr(module, "LADDER", Ladder()),
        external=registry.external(module, given),
        filled_in=tuple(getattr(module, "FILLED_IN", ())),
    )
    return _Resolved(module, options, plan, choice.method_place)


def stage_mistakes(spec_file: SpecFile, index: int, asset: AssetSpec) -> Iterator[DigitizeError]:
    """What is wrong with each stage by itself, all of it; then, if nothing is, what does not fit together."""
    try:
        _check_stages(spec_file, index, asset)
    except DigitizeError as error:
        yield error
        return
    sound, outputs = True, dict[str, str]()
    for stage in registry.stages():
        for choice in _choices(spec_file, index, asset, stage):
            try:
                found = resolve_stage(spec_file, index, asset, choice, stage, _given(asset, outputs))
                outputs |= _outputs(stage, found)
            except DigitizeError as error:
                sound = False
                yield error
    if sound:
        try:
            resolve(spec_file, index, asset)
        except DigitizeError as error:
            yield error


def _check_stages(spec_file: SpecFile, index: int, asset: AssetSpec) -> None:
    known = registry.stages()
    for place, stages in ((("stages",), spec_file.spec.stages), (("assets", index, "stages"), asset.stages)):
        for stage in stages:
            if stage not in known:
                message = f"expected one of the stages {', '.join(known)}, found '{stage}'"
                raise spec_file.error((*place, stage), message, ReasonCode.NOT_BUILT_YET)
            key = registry.spec_key(stage)
            if key is not None and any(each.method or each.options for each in stages[stage]):
                message = f"expected timeout_s alone: method and options are what an asset has under `{key}`"
                raise spec_file.error((*place, stage), message)


def _choices(spec_file: SpecFile, index: int, asset: AssetSpec, stage: Stage) -> list[_Choice]:
    """An asset's own choices come before the batch's; own options without a method go on top of the batch's."""
    if (key := registry.spec_key(stage)) is not None:
        return [_choice_of_key(spec_file, index, asset, stage, key)]
    common = spec_file.spec.stages.get(stage, (StageChoice(),))
    own = asset.stages.get(stage, (StageChoice(),))
    place: Place = ("assets", index, "stages", str(stage))
    if stage not in asset.stages:
        place = ("stages", str(stage)) if stage in spec_file.spec.stages else ("assets", index)
    if any(each.method for each in own):
        return [_merged(_alike(common, each.method), each, (*place, number)) for number, each in enumerate(own)]
    found = []
    for number, each in enumerate(common):
        where = place if stage in asset.stages else (*place, number)
        found.append(_merged(each, own[0], where))
    return found


def _choice_of_key(spec_file: SpecFile, index: int, asset: AssetSpec, stage: Stage, key: str) -> _Choice:
    """The choice that a key of the asset makes; `stages` may only say how long the stage may take."""
    timeouts = [each.timeout_s for stages in (asset.stages, spec_file.spec.stages) for each in stages.get(stage, ())]
    chosen: Scale = getattr(asset, key)
    timeout_s = next((each for each in timeouts if each), None)
    return _Choice(None, chosen.keys, timeout_s, ("assets", index, key), has_own_key=True)


def _alike(common: tuple[StageChoice, ...], method: str | None) -> StageChoice:
    """The batch's choice whose options hold for an asset's own choice: that of the same method, or of any."""
    return next((each for each in common if each.method in (None, method)), StageChoice())


def _merged(common: StageChoice, own: StageChoice, place: Place) -> _Choice:
    options = {**common.options, **own.options}
    return _Choice(own.method or common.method, options, own.timeout_s or common.timeout_s, place)


def _given(asset: AssetSpec, outputs: Mapping[str, str]) -> Given:
    masks = "given" if asset.given_masks else "network" if asset.mask_network else str(asset.masks)
    return Given(str(asset.capture_kind), frozenset(given_places(asset)), dict(outputs), masks, asset.scale.kind)


def _outputs(stage: Stage, found: _Resolved) -> dict[str, str]:
    kind = registry.outputs(found.module)
    return {} if kind is None else {str(stage): kind}


def _chain(spec_file: SpecFile, index: int, asset: AssetSpec, chosen: Mapping[Stage, _Choice]) -> Chain:
    """The stages that the goal needs, those that the asset wants and those that the specification names besides."""
    resolved: dict[Stage, _Resolved] = {}
    outputs: dict[str, str] = {}
    for stage, choice in chosen.items():
        found = resolve_stage(spec_file, index, asset, choice, stage, _given(asset, outputs))
        resolved[stage] = found
        outputs |= _outputs(stage, found)
    reads = {
        stage: registry.inputs(stage, found.module, found.options, str(asset.capture_kind))
        for stage, found in resolved.items()
    }
    named = {stage for stage in (*spec_file.spec.stages, *asset.stages) if not registry.is_built_in(stage)}
    wanted = {stage for stage in resolved if registry.is_wanted(stage, asset) and _is_allowed(stage, asset)}
    needed = _needed(spec_file, asset, resolved, reads, {GOAL, *named, *wanted})
    chain: Chain = {}
    for stage in (each for each in registry.stages() if each in needed):
        before = tuple(chain)
        inputs = tuple(each for each in before if _is_read(each, reads[stage], before))
        _check_fit(spec_file, resolved[stage], inputs, resolved)
        chain[stage] = StagePlan(**{**vars(resolved[stage].plan), "inputs": inputs})
    return chain


def _needed(
    spec_file: SpecFile,
    asset: AssetSpec,
    resolved: Mapping[Stage, _Resolved],
    reads: Mapping[Stage, Inputs],
    goals: set[Stage],
) -> set[Stage]:
    """The goals and everything that they require, directly or not."""
    found: set[Stage] = set()
    waiting = list(goals)
    while waiting:
        stage = waiting.pop()
        if stage in found:
            continue
        found.add(stage)
        for name in reads[stage].required:
            reader = f"method '{resolved[stage].plan.method}' of stage {stage}"
            required = Stage(name)
            if required not in resolved:
                message = f"{reader} needs stage {name}, which is not installed"
            elif registry.position(required) >= registry.position(stage):
                message = f"{reader} needs stage {name}, which comes after it"
            elif not _is_allowed(required, asset):
                message = f"{reader} needs stage {name}, which captures of kind {asset.capture_kind} do not have"
            else:
                waiting.append(required)
                continue
            raise spec_file.error(resolved[stage].place, message)
    return found


def _is_allowed(stage: Stage, asset: AssetSpec) -> bool:
    """Whether a stage makes sense for the asset's kind of capture."""
    return not registry.is_built_in(stage) or str(stage) in CAPTURE_KINDS[asset.capture_kind].stages


def _is_read(stage: Stage, reads: Inputs, before: tuple[Stage, ...]) -> bool:
    """Whether a stage is an input: it is named, or it refines one that is."""
    names = {*reads.required, *reads.optional}
    if EVERY in names:
        return True
    refined = {each for each in before if stage in registry.refiners(each)}
    return stage in names or bool(names & refined)


def _check_fit(
    spec_file: SpecFile, found: _Resolved, inputs: tuple[Stage, ...], resolved: Mapping[Stage, _Resolved]
) -> None:
    """Refuse a method that cannot read what a stage before it hands on."""
    accepts: Mapping[str, tuple[str, ...]] = getattr(found.module, "ACCEPTS", {})
    for stage in inputs:
        kind = registry.outputs(resolved[stage].module)
        if kind is None or stage not in accepts or kind in accepts[stage]:
            continue
        fitting = [name for name in registry.methods(found.plan.stage) if _fits(found.plan.stage, name, stage, kind)]
        message = (
            f"method '{found.plan.method}' takes {' or '.join(accepts[stage])} from stage {stage}, found "
            f"'{resolved[stage].plan.method}', which hands on a {kind}; choose {' or '.join(fitting) or 'another'}"
        )
        raise spec_file.error(found.place, message)


def _fits(stage: Stage, name: str, before: Stage, kind: str) -> bool:
    accepts: Mapping[str, tuple[str, ...]] = getattr(registry.method(stage, name), "ACCEPTS", {})
    return kind in accepts.get(before, (kind,))


def _check_given(spec_file: SpecFile, index: int, asset: AssetSpec, chains: list[Chain]) -> None:
    """Refuse what the user gave and no method of the asset reads."""
    read = {name for chain in chains for plan in chain.values() for name in plan.external}
    for name, (_, place) in given_places(asset).items():
        if name not in read:
            methods = ", ".join(dict.fromkeys(f"{plan.stage} {plan.method}" for plan in chains[0].values()))
            message = f"expected a method that reads {name}, found none among {methods}"
            raise spec_file.error(("assets", index, *place[:1]), message)


def _check_gates(spec_file: SpecFile, index: int, asset: AssetSpec, chains: list[Chain]) -> None:
    """Refuse a gate on a metric that no stage of the asset can report."""
    chosen = {(stage, plan.method) for chain in chains for stage, plan in chain.items()}
    known = {name for stage, method in chosen for name in registry.metrics(stage, registry.method(stage, method))}
    places: list[tuple[Place, Gate]] = [(("gates", number), gate) for number, gate in enumerate(spec_file.spec.gates)]
    places += [(("assets", index, "gates", number), gate) for number, gate in enumerate(asset.gates)]
    for place, gate in places:
        if gate.metric not in known:
            near = get_close_matches(gate.metric, sorted(known), 3, 0.5) or sorted(known)
            message = f"expected a metric that a stage measures ({', '.join(near)}), found '{gate.metric}'"
            raise spec_file.error((*place, "metric"), message)


def _implied(spec_file: SpecFile, asset: AssetSpec, stage: Stage, module: ModuleType, given: Given) -> dict[str, Any]:
    """Options that follow from other keys of the specification, as the stage derives them."""
    derive = getattr(registry.stage_module(stage), "implied_options", None)
    if derive is None:
        return {}
    of_input: Mapping[str, str] = getattr(registry.stage_module(stage), "OF_INPUT", {})
    implied: dict[str, Any] = {
        name: value
        for name, value in derive(asset, spec_file.spec, spec_file.resolve).items()
        if name not in of_input or of_input[name] in registry.external(module, given)
    }
    known = module.Options.model_fields
    wishes: tuple[str, ...] = getattr(registry.stage_module(stage), "IF_KNOWN", ())
    if lost := [name for name in implied if name not in known and name not in wishes]:
        message = f"the specification asks for {', '.join(lost)}, which this method does not know"
        raise DigitizeError(ReasonCode.SPEC_INVALID, message)
    return {name: value for name, value in implied.items() if name in known}


def _options_error(spec_file: SpecFile, place: Place, error: ValidationError) -> DigitizeError:
    """Every mistake in one stage's options; several are listed with their lines as `load_spec` does."""
    found = error.errors(include_url=False)
    places = [spec_file.place((*place, *each["loc"])) for each in found]
    lines = [spec_file.line(each) for each in places]
    texts = [explain_error({**each, "loc": where}) for each, where in zip(found, places, strict=True)]
    message = texts[0]
    if len(found) > 1:
        message = "\n".join(f"line {line}: {text}" for line, text in zip(lines, texts, strict=True))
    return DigitizeError(ReasonCode.SPEC_INVALID, message, path=f"{spec_file.path}:{lines[0]}")
