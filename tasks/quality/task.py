"""The entry point of the quality stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.capture_kind import CAPTURE_KINDS
from models.quality import merge_gates
from models.record import Record
from models.results import StageRequest, StageResult
from models.spec import AssetSpec, BatchSpec
from models.stage import EVERY, Inputs
from tasks import registry
from tasks.context import Context

AFTER = ("ingest", "pose", "train", "surface")
DEFAULT_METHOD = "standard"


def run(request: StageRequest, context: Context) -> StageResult:
    """Judge one asset.

    Inputs: `ingest`, `pose`, `surface`; `train` where it ran; optionally `truth`, a folder with `mesh.ply`,
    `cameras.json` and perhaps `support.json`. Outputs: `quality.json`, `report.html`, `preview.jpg`.
    """
    module = registry.method(request.stage, request.method)
    result: StageResult = module.judge_asset(module.Options.model_validate(request.options), context)
    return result


def inputs(options: Record, capture_kind: str) -> Inputs:
    """The published mesh and what it is compared with; the settings of every stage before, for the report."""
    return Inputs(required=("ingest", "pose", "surface"), optional=(EVERY,))


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """The gates of the kind of capture, the batch and the asset."""
    return {"gates": list(merge_gates(CAPTURE_KINDS[asset.capture_kind].gates, batch.gates, asset.gates))}
