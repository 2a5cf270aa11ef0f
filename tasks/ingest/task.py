"""The entry point of the ingest stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.capture_kind import CAPTURE_KINDS
from models.results import StageRequest, StageResult
from models.spec import AssetSpec, BatchSpec
from tasks import registry
from tasks.context import Context

AFTER: tuple[str, ...] = ()
DEFAULT_METHOD = "photos"
OF_INPUT = {"mask_role": "masks"}


def run(request: StageRequest, context: Context) -> StageResult:
    """Take in the photos of input `photos` (and `masks`), and write `photos.json`, `images/` and `masks/`."""
    module = registry.method(request.stage, request.method)
    result: StageResult = module.ingest(context, module.Options.model_validate(request.options))
    return result


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """The role of given masks, the fewest photos that the kind of capture allows, and what else the asset says of its
    photos."""
    implied: dict[str, Any] = {"min_photos": CAPTURE_KINDS[asset.capture_kind].minimum_photos}
    if asset.alignment_only:
        implied["alignment_only"] = list(asset.alignment_only)
    if asset.colour:
        implied["colour"] = asset.colour.model_dump(mode="json")
    return implied | ({"mask_role": asset.given_masks.role.value} if asset.given_masks else {})
