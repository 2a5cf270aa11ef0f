"""The door of the publish stage."""

from __future__ import annotations

from models.results import StageRequest, StageResult
from tasks import registry
from tasks.context import Context


def run(request: StageRequest, context: Context) -> StageResult:
    """Publish the asset to every target of its specification."""
    method = registry.method(request.stage, request.method)
    result: StageResult = method.publish(context, method.Options.model_validate(request.options))
    return result
