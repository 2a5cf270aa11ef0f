"""A line of stages that cost nothing, for tests of the command line: stub methods, and commits made without them."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from flows.asset import gates_applied, run_asset
from flows.batch import BatchOutcome
from flows.plan.batch_plan import plan_batch
from flows.plan.committed import BatchPlan
from flows.plan.walk import Walk
from flows.status.board import Board
from flows.status.files import committed, with_stage, write_status
from infra.settings import RunSettings
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from models.quality import Gate, Metric, Verdict
from models.record import Record
from models.resources import Estimate, Resources
from models.results import Done, StageRequest, StageResult
from models.spec_yaml import load_spec
from models.stage import Given, Stage
from models.status import AssetStatus, Failure, Phase
from models.store import Store
from models.verdict import judge_stage
from tasks import registry
from tasks.commit import run_stage
from tasks.context import Context, ProgressSink
from tests.support import STAGES, make_context


class IngestOptions(Record):
    max_edge_px: int = 1600
    mask_role: str = "object"
    min_photos: int = 3


class PoseOptions(Record):
    max_features: int = 4000
    format: str = "transforms"


class DenseOptions(Record):
    edge_px: int = 960


class MaskOptions(Record):
    weights_missing: bool = False


class TrainOptions(Record):
    steps: int = 1000


class SurfaceOptions(Record):
    resolution: int = 128
    support: str = "keep"


class ExportOptions(Record):
    formats: tuple[str, ...] = ("glb",)


class QualityOptions(Record):
    pass


class PublishOptions(Record):
    targets: tuple[Any, ...] = ()
    gates: tuple[Gate, ...] = ()


OPTIONS: dict[Stage, type[Record]] = {
    Stage.INGEST: IngestOptions,
    Stage.POSE: PoseOptions,
    Stage.MASK: MaskOptions,
    Stage.DENSE: DenseOptions,
    Stage.TRAIN: TrainOptions,
    Stage.SURFACE: SurfaceOptions,
    Stage.EXPORT: ExportOptions,
    Stage.QUALITY: QualityOptions,
    Stage.PUBLISH: PublishOptions,
}


EXTERNAL = {Stage.INGEST: ("photos", "masks"), Stage.POSE: ("poses",), Stage.QUALITY: ("truth",)}


def _module(stage: Stage) -> ModuleType:
    module = ModuleType(f"stub_{stage}")
    module.VERSION = "1"  # type: ignore[attr-defined]
    module.Options = OPTIONS[stage]  # type: ignore[attr-defined]
    module.EXTERNAL = EXTERNAL.get(stage, ())  # type: ignore[attr-defined]
    module.PRESETS = {}  # type: ignore[attr-defined]
    module.resources = lambda options: Resources(memory_gb=2.0, scratch_gb=0.5)  # type: ignore[attr-defined]
    module.estimate = lambda options, photos, megapixels: Estimate(seconds=10.0 * photos, memory_gb=1.5)  # type: ignore[attr-defined]
    return module


def _scale_module(true: ModuleType) -> ModuleType:
    module = ModuleType(true.__name__, true.__doc__)
    vars(module).update(vars(true) | {name: vars(_module(Stage.TRAIN))[name] for name in ("resources", "estimate")})
    return module


MODULES = {stage: _module(stage) for stage in registry.stages() if stage is not Stage.SCALE}


def install() -> None:
    """Make the registry know the stub methods and nothing else; kinds of scale keep their true options."""
    true_method = registry.method

    def method(stage: Stage, name: str) -> ModuleType:
        if stage is Stage.SCALE:
            return _scale_module(true_method(stage, name))
        if name not in (registry.default_method(stage, Given("rings")), "known", "mvs", "hash_sdf"):
            raise DigitizeError(ReasonCode.NOT_BUILT_YET, f"expected a {stage} method that is built, found '{name}'")
        return MODULES[stage]

    registry.method = method


def write_batch(folder: Path, *assets: str, extra: str = "") -> Path:
    """A batch with two tiny photos an asset."""
    lines = ["version: 1", "name: shelf", "publish: [{to: published}]", extra, "assets:"]
    for asset in assets or ("cup",):
        photos = folder / asset
        photos.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (40, 30), (index, 0, len(lines))).save(photos / f"p{index}.jpg")
        lines += [f"  - id: {asset}", f"    photos: {asset}", "    scale: {kind: none}"]
    path = folder / "batch.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def measured(**values: float) -> tuple[Metric, ...]:
    """Metrics of these values."""
    return tuple(Metric(name=name, value=value) for name, value in values.items())


SOUND = {"psnr_mesh_corrected": 26.0, "coverage_mesh": 0.98, "watertight": 1.0} | dict.fromkeys(
    ("degenerate_share", "non_manifold_share"), 0.0
)
"""What the default gates ask of the quality stage."""
RESULTS: dict[Stage, StageResult] = {
    stage: StageResult(facts={"n": 1})
    for stage in (Stage.INGEST, Stage.MASK, Stage.DENSE, Stage.TRAIN, Stage.SURFACE, Stage.SCALE, Stage.EXPORT)
} | {
    Stage.POSE: StageResult(
        facts={"tried": [{"rung": "sift exhaustive", "registered": 2, "error_px": 0.71234}]},
        metrics=measured(registered_share=0.95, registered_images=38),
    ),
    Stage.QUALITY: StageResult(metrics=measured(**SOUND, psnr_mesh=25.1)),
    Stage.PUBLISH: StageResult(),
}
FILES = {
    Stage.SURFACE: {"asset.glb": "glb"},
    Stage.EXPORT: {"asset.glb": "glb in metres"},
    Stage.PUBLISH: {"report.html": "<html>"},
    Stage.INGEST: {
        "images/p0.jpg": "x",
        "photos.json": json.dumps(
            {"photos": [], "rejected": [{"name": "bad[bold].jpg", "code": "blurred", "message": "sharpness 3"}]}
        ),
    },
}


def commit_line(
    spec: Path, asset: str, *, until: Stage = Stage.PUBLISH, results: dict[Stage, StageResult] | None = None
) -> dict[Stage, Done]:
    """Commit the stages of an asset up to `until` (included), as a run would, and write its status."""
    batch: BatchPlan = plan_batch(load_spec(spec))
    plan = next(each for each in batch.assets if each.id == asset)
    store = open_store(batch.store_uri)
    dones: dict[Stage, Done] = {}
    status = AssetStatus(batch=batch.name, asset=asset, phase=Phase.RUNNING, run="test")
    for stage in STAGES[: STAGES.index(until) + 1]:
        result = (results or {}).get(stage, RESULTS[stage])
        if stage is Stage.PUBLISH:
            target = str(spec.parent / "published")
            receipt = {
                "target": target,
                "published": True,
                "version": 1,
                "manifest": f"assets/{asset}/v1/manifest.json",
            }
            result = result.model_copy(update={"facts": {"receipts": [receipt]}})

        def door(request: StageRequest, context: Context, result: StageResult = result) -> StageResult:
            for name, text in {**FILES.get(request.stage, {}), "result.txt": request.key}.items():
                (context.output / name).parent.mkdir(exist_ok=True)
                (context.output / name).write_text(text)
            return result

        request = plan.request(stage, dones)
        folder = spec.parent / ".attempt"
        dones[stage] = run_stage(door, request, make_context(request, folder, store))
        shutil.rmtree(folder)
        status = with_stage(status, stage, **committed(dones[stage], cached=False))
        if judge_stage(result, plan.gates).verdict is Verdict.REJECT and stage is not Stage.QUALITY:
            break
    found = Walk(plan, dones)
    finished = until is Stage.PUBLISH
    phase = Phase.REJECTED if found.rejected else Phase.DONE if finished else Phase.RUNNING
    changes = {
        "phase": phase,
        "verdict": found.verdict if phase is not Phase.RUNNING else None,
        "reasons": found.reasons,
        "gates": gates_applied(found),
    }
    write_status(store, status.model_copy(update=changes))
    return dones


class StubRunner:
    """Commits the stages' stub results in this process; an asset named `slow` trains until it is cancelled."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store

    def run(self, request: StageRequest, on_progress: ProgressSink, cancelled: Callable[[], bool]) -> Done:
        """Run a stage."""
        on_progress(0.25, "a quarter", {})
        while request.asset == "slow" and request.stage is Stage.TRAIN:
            if cancelled():
                raise DigitizeError(ReasonCode.CANCELLED, "the run was cancelled", retryable=True)
            time.sleep(0.05)
        folder = self._folder / uuid.uuid4().hex

        def door(request: StageRequest, context: Context) -> StageResult:
            if request.asset == "broken" and request.stage is Stage.POSE:
                raise DigitizeError(ReasonCode.NO_FEATURES, "expected texture, found [bold]none[/bold]")
            (context.output / "result.txt").write_text(request.key)
            return RESULTS[request.stage]

        return run_stage(door, request, make_context(request, folder, self._store))

    def gpu_share(self, resources: Resources) -> float:
        """No GPUs."""
        return 0.0

    def gpus(self) -> float:
        """No GPUs."""
        return 0.0

    def cpus(self) -> float:
        """One core."""
        return 1.0

    def close(self) -> None:
        """Nothing is held."""


def install_runner(folder: Path) -> None:
    """Let `run_batch` use the stub runner."""
    import flows.batch
    import flows.uploads.launchers

    def make_runner(settings: RunSettings, store_uri: str, door: str = "") -> StubRunner:
        return StubRunner(folder, open_store(store_uri))

    flows.batch.make_runner = make_runner  # type: ignore[assignment]
    flows.uploads.launchers.make_runner = make_runner  # type: ignore[assignment]


def set_status(spec: Path, asset: str, **changes: Any) -> None:
    """Change the stored status of an asset."""
    from flows.status.files import read_status

    spec_file = load_spec(spec)
    store = open_store(spec_file.resolve(spec_file.spec.store))
    before = read_status(store, "shelf", asset) or AssetStatus(batch="shelf", asset=asset)
    if isinstance(failure := changes.get("failure"), Exception):
        changes["failure"] = Failure.of(failure, Stage.TRAIN)  # type: ignore[arg-type]
    updated_at = changes.pop("updated_at", None)
    written = write_status(store, before.model_copy(update=changes))
    if updated_at is not None:
        data = written.model_copy(update={"updated_at": updated_at}).model_dump_json().encode()
        store.put_bytes(f"status/shelf/{asset}.json", data)


def plain_batch(folder: Path) -> Callable[..., BatchOutcome]:
    """`run_batch` with the stub runner and without Prefect."""

    def run(plan: BatchPlan, settings: RunSettings, **_: Any) -> BatchOutcome:
        store, board = open_store(plan.store_uri), Board(plan.name)
        runner = StubRunner(folder, store)
        for asset, error in plan.unusable.items():
            failed = AssetStatus(batch=plan.name, asset=asset, phase=Phase.QUARANTINED, failure=Failure.of(error))
            board.put(failed)
        for each in plan.assets:
            write_status(store, run_asset(each, store, board, lambda r: runner.run(r, lambda *_: None, bool), "run"))
        statuses = {status.asset: status for status in board.all()}
        return BatchOutcome(plan.name, statuses, False, False, 1.0, "run")

    return run
