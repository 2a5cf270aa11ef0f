"""The entry point of the train stage: posed photos in, a representation out."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from models.artifacts import CAMERAS_FILE, MODEL_FOLDER, TRAIN_FILE
from models.capture_kind import CaptureKind
from models.digest import canonical_json
from models.record import Record
from models.results import StageRequest, StageResult
from models.spec import AssetSpec, BatchSpec, MaskRole
from models.stage import Inputs, Stage
from tasks import registry
from tasks.context import Context
from tasks.stage_files import read_poses
from tasks.train.outcome import Trained, rounded
from tasks.train.scalars import FILE_NAME, write_scalars

AFTER = ("pose", "dense")
DEFAULT_METHOD = "hash_density"
DENSE_METHOD = "patchmatch"
IF_KNOWN = ("mask_use", "dense_prior")
SCALARS_FOLDER = "scalars"
"""An event file for TensorBoard; its times are steps, so that equal work gives equal bytes."""


def run(request: StageRequest, context: Context) -> StageResult:
    """Train on the outputs of the pose stage (input `pose`); writes `model/`, `train.json` and `scalars/`.

    Equal requests give equal bytes on a CPU of one kind, unless a time budget is set.
    """
    module = registry.method(request.stage, request.method)
    trained: Trained = module.fit(read_poses(context), module.Options.model_validate(request.options), context)
    expected = registry.outputs(module)
    if trained.model.kind != expected:
        raise TypeError(f"method '{request.method}' declares OUTPUTS = '{expected}', it made a '{trained.model.kind}'")
    trained.model.save(context.output / MODEL_FOLDER)
    facts: dict[str, Any] = {"method": request.method, "kind": trained.model.kind, **trained.facts}
    if trained.cameras is not None:
        (context.output / CAMERAS_FILE).write_bytes(canonical_json(trained.cameras) + b"\n")
    history = [{**row, "step": int(row["step"]), "psnr": rounded(row["psnr"])} for row in trained.history]
    (context.output / TRAIN_FILE).write_bytes(canonical_json({**facts, "history": history}) + b"\n")
    scalars = [*trained.curve, *({"step": row["step"], "psnr": row["psnr"]} for row in trained.history)]
    if scalars:
        write_scalars(context.output / SCALARS_FOLDER / FILE_NAME, sorted(scalars, key=itemgetter("step")))
    return StageResult(facts={**facts, **trained.measured}, lowered=dict(trained.lowered))


def inputs(options: Record, capture_kind: str) -> Inputs:
    """The poses, unless a method says otherwise."""
    return Inputs(required=("pose",))


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """On a turntable what a mask leaves out does not turn with the object: it is no part of the world. Where another
    method of the asset's list reads dense stereo, fields take it for a prior."""
    implied: dict[str, Any] = {}
    if asset.given_masks is not None and asset.given_masks.role is not MaskRole.IGNORE:
        implied |= {"mask_use": "empty"} if asset.capture_kind is CaptureKind.TURNTABLE else {}
    choices = asset.stages.get(Stage.TRAIN) or batch.stages.get(Stage.TRAIN, ())
    if any(_reads_dense(choice.method) for choice in choices):
        implied["dense_prior"] = True
    return implied


def _reads_dense(name: str | None) -> bool:
    """Whether a method needs dense stereo, and this machine has it."""
    if name not in registry.methods(Stage.TRAIN) or not registry.is_available(Stage.DENSE, DENSE_METHOD):
        return False
    module = registry.method(Stage.TRAIN, name)
    return str(Stage.DENSE) in registry.inputs(Stage.TRAIN, module, module.Options(), CaptureKind.RINGS).required
