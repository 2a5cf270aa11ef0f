"""The door of the ingest stage."""

from __future__ import annotations

from models.results import StageRequest, StageResult
from tasks import registry
from tasks.context import Context


def run(request: StageRequest, context: Context) -> StageResult:
    """Take in the photos of input `photos` (and `masks`), and write `photos.json`, `images/` and `masks/`."""
    module = registry.method(request.stage, request.method)
    result: StageResult = module.ingest(context, module.Options.model_validate(request.options))
    return result
