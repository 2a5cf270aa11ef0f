"""From a specification to stage requests: which method with which effective options, on which inputs.

Light on purpose: no Prefect, no Ray, no torch, so that a finished batch is recognised in a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.storage import open_store
from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.ladder import Ladder
from models.quality import DEFAULT_GATES, POSE_METRICS, Gate
from models.resources import Estimate, Resources
from models.results import STAGES, ArtifactRef, Done, FileRef, Stage, StageRequest
from models.spec import AssetSpec, ScaleKind, StageChoice
from models.spec_yaml import SpecFile, explain_error
from tasks import registry

COMMITTED_INPUTS: dict[Stage, tuple[Stage, ...]] = {
    Stage.INGEST: (),
    Stage.POSE: (Stage.INGEST,),
    Stage.TRAIN: (Stage.POSE,),
    Stage.SURFACE: (Stage.POSE, Stage.TRAIN),
    Stage.QUALITY: (Stage.INGEST, Stage.POSE, Stage.TRAIN, Stage.SURFACE),
    Stage.PUBLISH: (Stage.INGEST, Stage.POSE, Stage.TRAIN, Stage.SURFACE, Stage.QUALITY),
}
"""What each stage reads of the stages before it."""

EXTERNAL_INPUTS: dict[Stage, tuple[str, ...]] = {
    Stage.INGEST: ("photos", "masks"),
    Stage.POSE: ("poses",),
    Stage.QUALITY: ("truth",),
}
"""What each stage reads that the user gave."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of one asset, before its inputs are known."""

    stage: Stage
    method: str
    version: str
    options: dict[str, Any]
    resources: Resources
    ladder: Ladder = field(default_factory=Ladder)

    def estimate(self, photos: int, megapixels: float) -> Estimate:
        """Expected time and memory for that many photos of that size."""
        module = registry.method(self.stage, self.method)
        estimate: Estimate = module.estimate(module.Options.model_validate(self.options), photos, megapixels)
        return estimate


@dataclass(frozen=True)
class AssetPlan:
    """One asset, ready to run."""

    id: str
    batch: str
    seed: int
    stages: dict[Stage, StagePlan]
    sources: dict[str, ArtifactRef]
    priority: int = 0

    def request(self, stage: Stage, done: Mapping[Stage, Done]) -> StageRequest:
        """The request of a stage, once the stages that it reads are committed."""
        plan, options = self.stages[stage], self.stages[stage].options
        if stage is Stage.QUALITY and (lowered := _stepped_down(done)):
            options = {**options, "stepped_down": lowered}
        inputs = {str(name): done[name].ref for name in COMMITTED_INPUTS[stage]}
        inputs |= {name: self.sources[name] for name in EXTERNAL_INPUTS.get(stage, ()) if name in self.sources}
        return StageRequest(
            asset=self.id,
            stage=stage,
            method=plan.method,
            version=plan.version,
            options=options,
            inputs=inputs,
            seed=self.seed,
            resources=plan.resources,
        )


def _stepped_down(done: Mapping[Stage, Done]) -> dict[str, Any]:
    """What the report has to say about smaller settings, by stage."""
    found = {str(stage): each.stepped_down for stage, each in done.items() if each.stepped_down is not None}
    return {stage: each.model_dump(mode="json") for stage, each in found.items()}


@dataclass(frozen=True)
class BatchPlan:
    """A batch, ready to run. Assets whose sources are unusable are set aside with their error."""

    name: str
    store_uri: str
    assets: tuple[AssetPlan, ...]
    unusable: dict[str, DigitizeError]


Refer = Callable[[str], ArtifactRef]
"""What lies at a uri, by content: `source_ref`, or one that remembers."""


def plan_batch(spec_file: SpecFile, only: Iterable[str] = (), refer: Refer | None = None) -> BatchPlan:
    """Resolve a specification.

    Args:
        only: asset ids to plan; all when empty.
        refer: how sources are identified; `source_ref` when None.

    Raises DigitizeError(spec_invalid or not_built_yet) with file and line on unknown methods, options or ids. A
    source that is missing concerns its asset alone and lands in `unusable`.
    """
    spec, wanted = spec_file.spec, set(only)
    if unknown := wanted - {asset.id for asset in spec.assets}:
        known = ", ".join(asset.id for asset in spec.assets)
        raise spec_file.error(("assets",), f"expected one of {known}, found {', '.join(sorted(unknown))}")
    plans, unusable = [], {}
    for index, asset in enumerate(spec.assets):
        if wanted and asset.id not in wanted:
            continue
        stages = {stage: plan_stage(spec_file, index, asset, stage) for stage in STAGES}
        try:
            sources = find_sources(spec_file, index, asset, refer)
        except DigitizeError as error:
            error.asset = asset.id
            unusable[asset.id] = error
            continue
        seed = spec.seed if asset.seed is None else asset.seed
        plans.append(AssetPlan(asset.id, spec.name, seed, stages, sources, asset.priority))
    return BatchPlan(spec.name, spec_file.resolve(spec.store), tuple(plans), unusable)


def plan_stage(spec_file: SpecFile, index: int, asset: AssetSpec, stage: Stage) -> StagePlan:
    """Resolve one stage of the asset at `index`. Raises DigitizeError with file and line; see `plan_batch`."""
    spec = spec_file.spec
    common, own = spec.stages.get(stage, StageChoice()), asset.stages.get(stage, StageChoice())
    default = "known" if stage is Stage.POSE and asset.poses else registry.DEFAULT_METHODS[stage]
    name = own.method or common.method or default
    place: tuple[str | int, ...] = ("assets", index, "stages", str(stage))
    if stage not in asset.stages:
        place = ("stages", str(stage)) if stage in spec.stages else ("assets", index)
    try:
        module = registry.method(stage, name)
        given = common.options if common.method in (None, name) else {}
        overrides = {**_implied_options(spec_file, asset, stage), **given, **own.options}
        options = registry.effective_options(stage, name, asset.preset or spec.preset, overrides)
    except ValidationError as error:
        raise _options_error(spec_file, (*place, "options"), error) from error
    except DigitizeError as error:
        raise spec_file.error((*place, "method"), error.message, error.code) from error
    resources: Resources = module.resources(options)
    if timeout_s := own.timeout_s or common.timeout_s:
        resources = resources.model_copy(update={"timeout_s": timeout_s})
    ladder: Ladder = getattr(module, "LADDER", Ladder())
    return StagePlan(stage, name, module.VERSION, options.model_dump(mode="json"), resources, ladder)


def _options_error(spec_file: SpecFile, place: tuple[str | int, ...], error: ValidationError) -> DigitizeError:
    """Every mistake in one stage's options; several are listed with their lines as `load_spec` does."""
    found = error.errors(include_url=False)
    lines = [spec_file.line((*place, *each["loc"])) for each in found]
    texts = [explain_error({**each, "loc": (*place, *each["loc"])}) for each in found]
    message = texts[0]
    if len(found) > 1:
        message = "\n".join(f"line {line}: {text}" for line, text in zip(lines, texts, strict=True))
    return DigitizeError(ReasonCode.SPEC_INVALID, message, path=f"{spec_file.path}:{lines[0]}")


def _implied_options(spec_file: SpecFile, asset: AssetSpec, stage: Stage) -> dict[str, Any]:
    """Options that follow from the asset's own keys rather than from a preset."""
    gates = merge_gates(spec_file.spec.gates, asset.gates)
    if stage is Stage.INGEST and asset.masks:
        return {"mask_role": asset.masks.role.value}
    if stage is Stage.POSE:
        implied: dict[str, Any] = {"gates": [gate for gate in gates if gate.metric in POSE_METRICS]}
        if asset.scale.kind is not ScaleKind.NONE:
            implied["scale"] = asset.scale
        if asset.poses:
            implied["format"] = asset.poses.format
        return implied
    if stage is Stage.QUALITY:
        return {"gates": list(gates)}
    if stage is Stage.PUBLISH:
        return {
            "targets": [
                target.model_copy(update={"to": spec_file.resolve(target.to)}) for target in spec_file.spec.publish
            ]
        }
    return {}


def merge_gates(*layers: Iterable[Gate]) -> tuple[Gate, ...]:
    """The default gates with each layer on top: a later gate replaces one of the same metric and consequence."""
    merged = {(gate.metric, gate.otherwise): gate for gate in DEFAULT_GATES}
    for layer in layers:
        merged |= {(gate.metric, gate.otherwise): gate for gate in layer}
    return tuple(merged.values())


def find_sources(
    spec_file: SpecFile, index: int, asset: AssetSpec, refer: Refer | None = None
) -> dict[str, ArtifactRef]:
    """What the user gave for an asset, by content.

    Raises DigitizeError(source_not_found or source_empty) with the specification's line.
    """
    places: dict[str, tuple[str | int, ...]] = {
        "photos": ("photos",),
        "masks": ("masks", "path"),
        "poses": ("poses", "path"),
    }
    given = {
        "photos": asset.photos,
        "masks": asset.masks and asset.masks.path,
        "poses": asset.poses and asset.poses.path,
        "truth": asset.truth,
    }
    sources = {}
    for name, location in given.items():
        if not location:
            continue
        try:
            sources[name] = (refer or source_ref)(spec_file.resolve(location))
        except DigitizeError as error:
            where = ("assets", index, *places.get(name, (name,)))
            raise spec_file.error(where, error.message, error.code) from error
    return sources


def source_ref(uri: str) -> ArtifactRef:
    """A reference to a folder, a file or an `s3://` prefix by the content of its files.

    Objects on S3 are identified by key, size and ETag rather than downloaded.
    """
    if uri.startswith("s3://"):
        stats = list(open_store(uri).list(""))
        files = tuple(FileRef(path=stat.key, sha256=f"etag:{stat.etag}", bytes=stat.bytes) for stat in stats)
    else:
        path = Path(uri)
        if not path.exists():
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, f"expected a folder or file, found nothing at {path}")
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if _counts(p, path))
        base = path.parent if path.is_file() else path
        files = tuple(
            FileRef(path=p.relative_to(base).as_posix(), sha256=sha256_file(p), bytes=p.stat().st_size) for p in found
        )
    if not files:
        raise DigitizeError(ReasonCode.SOURCE_EMPTY, f"expected at least one file, found none in {uri}")
    return ArtifactRef(digest=ArtifactRef.content_digest(files), uri=uri, files=files)


def _counts(path: Path, root: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
