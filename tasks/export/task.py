"""The entry point of the export stage."""

from __future__ import annotations

from models.record import Record
from models.results import StageRequest, StageResult
from models.stage import Inputs
from tasks import registry
from tasks.context import Context

AFTER = ("pose", "dense", "surface", "scale")
DEFAULT_METHOD = "standard"


def run(request: StageRequest, context: Context) -> StageResult:
    """Write the files that are published of the model, the points and the cameras."""
    method = registry.method(request.stage, request.method)
    result: StageResult = method.export(context, method.Options.model_validate(request.options))
    return result


def inputs(options: Record, capture_kind: str) -> Inputs:
    """The tiers, the cameras and the size; the points of dense stereo where it ran."""
    return Inputs(required=("pose", "surface", "scale"), optional=("dense",))
