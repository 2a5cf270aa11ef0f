"""The entry point of the quality stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.record import Record
from models.results import StageRequest, StageResult
from models.spec import AssetSpec, BatchSpec
from models.stage import Inputs
from tasks import registry
from tasks.context import Context
from tasks.quality import metrics

# `export` gives the order alone: measured in the capture's own units, an asset is the same at any distance and format
AFTER = ("ingest", "pose", "mask", "dense", "train", "surface", "export")
DEFAULT_METHOD = "standard"
METRICS = metrics.names
IF_KNOWN = ("metrics",)


def run(request: StageRequest, context: Context) -> StageResult:
    """Measure one asset.

    Inputs: `ingest`, `pose`, `surface`; `train` where it ran; optionally `truth`, a folder with `mesh.ply`,
    `cameras.json` and perhaps `support.json`. Outputs: `quality.json`, `figures.html`, `preview.jpg`.
    """
    module = registry.method(request.stage, request.method)
    result: StageResult = module.measure_asset(module.Options.model_validate(request.options), context)
    return result


def inputs(options: Record, capture_kind: str) -> Inputs:
    """The main tier and what it is compared with."""
    return Inputs(required=("ingest", "pose", "surface"), optional=("mask", "dense", "train"))


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """The metrics of installed packages."""
    return {"metrics": metrics.installed()}
