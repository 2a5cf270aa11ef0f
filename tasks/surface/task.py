"""The door of the surface stage."""

from __future__ import annotations

from models.results import StageRequest, StageResult
from tasks import registry
from tasks.context import Context


def run(request: StageRequest, context: Context) -> StageResult:
    """Turn the trained field into a cleaned, textured and exported mesh."""
    method = registry.method(request.stage, request.method)
    result: StageResult = method.surface(context, method.Options.model_validate(request.options))
    return result
