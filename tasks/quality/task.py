"""The door of the quality stage."""

from __future__ import annotations

from models.results import StageRequest, StageResult
from tasks import registry
from tasks.context import Context


def run(request: StageRequest, context: Context) -> StageResult:
    """Judge one asset.

    Inputs: `ingest`, `pose`, `train`, `surface`; optionally `truth`, a folder with `mesh.ply`, `cameras.json` and
    perhaps `support.json`. Outputs: `quality.json`, `report.html`, `preview.jpg`.
    """
    module = registry.method(request.stage, request.method)
    result: StageResult = module.judge_asset(module.Options.model_validate(request.options), context)
    return result
