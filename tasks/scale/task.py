"""The entry point of the scale stage."""

from __future__ import annotations

from models.artifacts import SCALE_FILE
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.record import Record
from models.results import StageRequest, StageResult
from models.scale import MeasuredScale
from models.stage import Given, Inputs, Stage
from tasks import registry
from tasks.context import Context

# a kind may measure the mesh, and so the stage comes after it
AFTER = ("ingest", "pose", "surface")
SPEC_KEY = "scale"


def run(request: StageRequest, context: Context) -> StageResult:
    """Find the size of the capture in metres; writes `scale.json`.

    Raises DigitizeError(scale_unsolved) where what the specification gives does not tell it.
    """
    method = registry.method(request.stage, request.method)
    found: MeasuredScale = method.measure(context, method.Options.model_validate(request.options))
    (context.output / SCALE_FILE).write_bytes(canonical_json(found) + b"\n")
    facts = {
        "metres_per_unit": found.metres_per_unit,
        "scale_source": found.source,
        "scale_uncertainty": found.uncertainty,
        "scale_residual_px": None if found.residual_px is None else round(found.residual_px, 3),
        "notes": list(found.notes) or None,
    }
    return StageResult(facts={name: value for name, value in facts.items() if value is not None})


def default_method(given: Given) -> str:
    """The kind of scale that the specification asks for. Raises DigitizeError with the kinds that are built, this
    distribution's and installed ones, where it is none of them."""
    built = registry.methods(Stage.SCALE)
    if given.scale in built:
        return given.scale
    message = f"expected a kind of scale that is built ({', '.join(built)}), found '{given.scale}'"
    raise DigitizeError(ReasonCode.NOT_BUILT_YET, message)


def inputs(options: Record, capture_kind: str) -> Inputs:
    """The cameras, and the sizes of the photos that points are marked in."""
    return Inputs(required=("ingest", "pose"))
