"""What a training method hands on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.camera import CameraSet
from models.representation import Representation


@dataclass(frozen=True)
class Trained:
    """A model of the asset and how it came about. Everything but the model may be left out."""

    model: Representation
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values for `train.json`, the report and people; equal work gives equal facts."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that vary from run to run (speeds): told, not written."""
    history: Sequence[Mapping[str, float]] = ()
    """`{"step", "psnr", "loss"}` of each evaluation, for the report's curve."""
    curve: Sequence[Mapping[str, float]] = ()
    """`{"step", ...}`: further scalars over the steps, for TensorBoard."""
    cameras: CameraSet | None = None
    """The training photos' refined cameras, where the method refined them."""
    lowered: Mapping[str, Any] = field(default_factory=dict)
    """The options that were lowered to fit into memory, with the values that were used."""


def rounded(value: float, digits: int = 3) -> float | None:
    """A figure for records, which hold finite numbers; None for others."""
    return round(value, digits) if math.isfinite(value) else None
