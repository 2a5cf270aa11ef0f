"""The entry point of the dense stage: posed photos in, depth maps and the points that they agree on out."""

from __future__ import annotations

from models.results import StageRequest, StageResult
from tasks import registry
from tasks.context import Context

AFTER = ("pose", "mask")
REFINES = ("pose",)
DEFAULT_METHOD = "patchmatch"


def run(request: StageRequest, context: Context) -> StageResult:
    """Depth of the training photos; writes `dense.npz`, `depth/<stem>.npz` and `dense.json`, and where masks were found
    `masks/*.png` and `poses.json` again.

    Rejects captures whose photos agree on nothing in the region. Equal requests give equal bytes on one
    instruction set.
    """
    module = registry.method(request.stage, request.method)
    result: StageResult = module.densify(module.Options.model_validate(request.options), context)
    return result
