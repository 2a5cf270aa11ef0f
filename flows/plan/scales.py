"""Whether a `scale` outside the specification's own file, in a capture's manifest, can be used."""

from __future__ import annotations

from pydantic import ValidationError

from models.capture_kind import CaptureKind
from models.errors import DigitizeError
from models.spec import Scale
from models.spec_yaml import explain_error
from models.stage import Given, Stage
from tasks import registry


def scale_mistake(scale: Scale) -> str | None:
    """What is wrong with a kind of scale or with its keys; None where nothing is."""
    try:
        name = registry.default_method(Stage.SCALE, Given(str(CaptureKind.RINGS), scale=scale.kind))
        registry.method(Stage.SCALE, name).Options.model_validate(scale.keys)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return explain_error({**first, "loc": ("scale", *first["loc"])})
    except DigitizeError as error:
        return f"scale.kind: {error.message}"
    return None
