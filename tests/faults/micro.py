"""A line of quick stages with true commits, checkpoints, leases and publishing: for faults at every instant."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flows.asset import run_asset, run_with_progress
from flows.plan.committed import AssetPlan, BatchPlan, StagePlan
from flows.runner.local import InlineRunner
from flows.status.board import Board, StatusKeeper
from flows.status.leases import Leases
from infra.settings import RunSettings
from infra.storage import open_store
from models.camera import Camera, PosedImage, PoseSet, matrix4
from models.digest import canonical_json, sha256_bytes
from models.errors import DigitizeError
from models.exports import ExportedFile, ExportIndex
from models.manifest import Latest, Manifest
from models.quality import Metric
from models.resources import Resources
from models.results import Done, StageRequest, StageResult
from models.scale import MeasuredScale
from models.stage import Stage
from models.status import AssetStatus
from tasks.context import Context
from tasks.publish import task as publish
from tasks.report_page import SLOTS, slot
from tests.support import STAGES, before

DOOR = "tests.faults.micro:door"
STEPS = 4
_CAMERA = Camera(width=4, height=3, fx=2, fy=2, cx=2, cy=1.5)
_POSES = PoseSet(
    images=(PosedImage(name="a.jpg", camera=_CAMERA, c2w=matrix4(np.eye(4))),), world_from_field=matrix4(np.eye(4))
)
_FILES = {
    Stage.INGEST: ("photos.json", "images/p0.jpg", "images/p1.jpg"),
    Stage.POSE: ("points.npz",),
    Stage.MASK: ("mask.json",),
    Stage.TRAIN: ("model/representation.json", "model/weights.bin"),
    Stage.SURFACE: ("asset.glb", "mesh.ply"),
    Stage.SCALE: (),
    Stage.EXPORT: ("asset.glb", "asset.ply", "mesh.ply"),
    Stage.QUALITY: ("preview.jpg",),
}


def door(request: StageRequest, context: Context) -> StageResult:
    """Bytes that follow from the inputs' bytes alone, made in steps with a checkpoint after each; then publishing."""
    if request.stage is Stage.PUBLISH:
        return publish.run(request, context)
    state = hashlib.sha256(f"{request.asset} {request.stage} {request.seed}".encode())
    for name, ref in sorted(request.inputs.items()):
        for file in ref.files:
            state.update(context.fetch(name, file.path).read_bytes())
    step, value = 0, state.hexdigest()
    if (found := context.load_checkpoint("state.txt")) is not None:
        number, value = found.read_text().split()
        step = int(number)
    for number in range(step, STEPS):
        context.check()
        time.sleep(float(request.options.get("pause_s", 0.0)))
        value = hashlib.sha256(value.encode()).hexdigest()
        (context.scratch / "state.txt").write_text(f"{number + 1} {value}")
        context.save_checkpoint("state.txt", context.scratch / "state.txt")
    for name in _FILES[request.stage]:
        path = context.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{name} {value}".encode() * 50)
    if request.stage is Stage.POSE:
        (context.output / "poses.json").write_bytes(canonical_json(_POSES))
    if request.stage is Stage.SCALE:
        (context.output / "scale.json").write_bytes(canonical_json(MeasuredScale()))
    if request.stage is Stage.EXPORT:
        files = tuple(
            ExportedFile(path=name, role="model", media_type="model/x", tier="medium", bytes=1)
            for name in _FILES[Stage.EXPORT]
        )
        (context.output / "export.json").write_bytes(canonical_json(ExportIndex(units="arbitrary", files=files)))
    if request.stage is Stage.QUALITY:
        (context.output / "figures.html").write_text("\n".join([value, *map(slot, SLOTS)]))
        (context.output / "quality.json").write_bytes(canonical_json({"mesh": {"extent": [1.0, 1.0, 1.0]}}))
        return StageResult(metrics=(Metric(name="psnr_mesh", value=int(value[:2], 16) / 8, unit="dB"),))
    return StageResult()


def micro_plan(store: str, published: str, assets: list[str], **options: object) -> BatchPlan:
    """A batch of micro assets."""
    plans = []
    for asset in assets:
        needs = Resources(timeout_s=60)
        stages = {stage: StagePlan(stage, "micro", "1", dict(options), needs, inputs=before(stage)) for stage in STAGES}
        targets = {"targets": [{"to": published}], "gates": []}
        stages[Stage.PUBLISH] = StagePlan(Stage.PUBLISH, "versioned", "1", targets, needs, inputs=before(Stage.PUBLISH))
        plans.append(AssetPlan(asset, "micro", 0, stages, {}, gates=()))
    return BatchPlan("micro", store, tuple(plans), {})


def digitize(
    plan: BatchPlan, scratch: Path, tries: int = 3, cancelled: Callable[[], bool] = lambda: False
) -> list[AssetStatus]:
    """Bring every asset as far as it gets, as a run does, in this process; what is retryable is tried again."""
    scratch.mkdir(parents=True, exist_ok=True)
    store, board = open_store(plan.store_uri), Board(plan.name)
    runner = InlineRunner(RunSettings(scratch=scratch), plan.store_uri, DOOR, isolated=False)

    def run_stage(request: StageRequest) -> Done:
        for left in range(tries - 1, -1, -1):
            try:
                return run_with_progress(runner, board, leases, request, cancelled, lambda done: None)
            except DigitizeError as error:
                if not (error.retryable and left):
                    raise
        raise AssertionError("the last try returns or raises")

    with Leases(store) as leases, StatusKeeper(board, store):
        return [run_asset(asset, store, board, run_stage) for asset in plan.assets]


def published(uri: str) -> dict[str, str]:
    """The digest of each published asset's manifest, every byte of it checked; one version each, none half written."""
    store, found = open_store(uri), {}
    keys = [stat.key for stat in store.list("assets/")]
    for key in keys:
        if not key.endswith("/latest.json"):
            continue
        latest = Latest.model_validate_json(store.get_bytes(key) or b"")
        data = store.get_bytes(latest.manifest) or b""
        assert sha256_bytes(data) == latest.manifest_sha256
        folder = latest.manifest.rpartition("/")[0]
        for file in Manifest.model_validate_json(data).files:
            assert sha256_bytes(store.get_bytes(f"{folder}/{file.path}") or b"") == file.sha256
        assert latest.version == 1
        assert [each for each in keys if each.startswith(f"assets/{latest.asset}/v2/")] == []
        found[latest.asset] = latest.manifest_sha256
    return found
