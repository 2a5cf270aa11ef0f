"""The door of the train stage: posed photos in, a field out."""

from __future__ import annotations

import math
from operator import itemgetter

from models.camera import PoseSet
from models.digest import canonical_json
from models.results import StageRequest, StageResult
from tasks.context import Context
from tasks.registry import method
from tasks.train.scalars import FILE_NAME, write_scalars

FIELD_FOLDER = "field"
TRAIN_FILE = "train.json"
CAMERAS_FILE = "cameras.json"
"""The refined cameras of the training photos, where a method refined them."""
SCALARS_FOLDER = "scalars"
"""An event file for TensorBoard; its times are steps, so that equal work gives equal bytes."""


def run(request: StageRequest, context: Context) -> StageResult:
    """Train on the outputs of the pose stage (input `pose`); writes `field/`, `train.json` and `scalars/`.

    Equal requests give equal bytes on a CPU of one kind, unless a time budget is set.
    """
    module = method(request.stage, request.method)
    options = module.Options.model_validate(request.options)
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_text())
    fitted = module.fit(poses, options, context)
    fitted.field.save(context.output / FIELD_FOLDER)
    progress = fitted.progress
    facts: dict[str, object] = {
        "method": request.method,
        "steps": progress.step,
        "rays": progress.rays,
        "samples": progress.samples,
        "divergences": progress.divergences,
        "psnr_train": _rounded(fitted.psnr_train),
        "psnr_heldout": _rounded(fitted.psnr_heldout),
        "occupancy": _rounded(fitted.occupancy, 5),
        "level": fitted.field.level,
    }
    if fitted.cameras is not None and fitted.camera_change is not None:
        (context.output / CAMERAS_FILE).write_bytes(canonical_json(fitted.cameras) + b"\n")
        facts["camera_change"] = {k: _rounded(v, 5) for k, v in fitted.camera_change._asdict().items()}
    history = [{"step": int(e["step"]), "psnr": _rounded(e["psnr"]), "loss": e["loss"]} for e in progress.history]
    (context.output / TRAIN_FILE).write_bytes(canonical_json({**facts, "history": history}) + b"\n")
    scalars = [*progress.curve, *({"step": e["step"], "psnr": e["psnr"]} for e in progress.history)]
    write_scalars(context.output / SCALARS_FOLDER / FILE_NAME, sorted(scalars, key=itemgetter("step")))
    if progress.seconds > 0:
        facts["samples_per_s"] = round(progress.samples / progress.seconds)
    return StageResult(facts=facts, lowered=fitted.stepped_down or {})


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
