"""The entry point of the publish stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.record import Record
from models.results import StageRequest, StageResult
from models.spec import AssetSpec, BatchSpec
from models.stage import EVERY, Inputs
from models.verdict import gates_of
from tasks import registry
from tasks.context import Context

AFTER = ("scale", "export", "quality", EVERY)
DEFAULT_METHOD = "versioned"


def run(request: StageRequest, context: Context) -> StageResult:
    """Judge the asset, write its report, and publish it to every target of its specification that takes it."""
    method = registry.method(request.stage, request.method)
    result: StageResult = method.publish(context, method.Options.model_validate(request.options))
    return result


def inputs(options: Record, capture_kind: str) -> Inputs:
    """What is published, and every stage's settings for the manifest."""
    return Inputs(required=("scale", "export", "quality"), optional=(EVERY,))


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """The batch's targets, relative ones from the specification's folder, and the gates."""
    targets = [target.model_copy(update={"to": resolve(target.to)}) for target in batch.publish]
    return {"targets": targets, "gates": gates_of(batch, asset)}
