"""The entry point of the surface stage."""

from __future__ import annotations

from models.errors import DigitizeError, ReasonCode
from models.results import StageRequest, StageResult
from models.stage import Given
from tasks import registry
from tasks.context import Context

AFTER = ("pose", "train")
UNFIT = frozenset(
    {
        ReasonCode.EMPTY_SURFACE,
        ReasonCode.ALL_FLOATERS,
        ReasonCode.INSIDE_OUT,
        ReasonCode.OUTSIDE_REGION,
        ReasonCode.NOT_FINITE,
    }
)
"""What a method finds out about an asset rather than fails at: a result, so that another method may be tried."""
_BY_KIND = {"field": "isosurface", "mesh": "mesh"}


def run(request: StageRequest, context: Context) -> StageResult:
    """Turn what the train stage made into a cleaned and textured mesh in several sizes; reject an asset without one."""
    method = registry.method(request.stage, request.method)
    try:
        result: StageResult = method.surface(context, method.Options.model_validate(request.options))
    except DigitizeError as error:
        if error.code not in UNFIT:
            raise
        return StageResult.rejection(error)
    return result


def default_method(given: Given) -> str:
    """The method for the kind of representation that the train stage hands on."""
    return _BY_KIND.get(given.outputs.get("train", "field"), "isosurface")
