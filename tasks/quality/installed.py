"""Metrics of installed packages, one module each (entry-point group `digitize.metrics`).

A module holds, under the metric's name as its entry point:

    VERSION: str                                 raised whenever the same asset gives another value
    UNIT, BETTER, ABOUT: str                     of `models.quality.Metric`; BETTER is `higher` or `lower`
    def measure(seen: Seen) -> float | None      None where it cannot be measured of this asset
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from models.camera import PoseSet
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.quality import Metric
from tasks.context import Context
from tasks.quality.metrics import load
from tasks.quality.truth import Measured
from tasks.quality.views import View


@dataclass(frozen=True)
class Seen:
    """What a metric may look at."""

    mesh: Mesh
    """The published mesh in the capture's frame and unit."""
    poses: PoseSet
    views: tuple[View, ...]
    """Held-out photos with the pictures that the model and the mesh make of them."""
    measured: Measured | None
    """The comparison with the truth; None without one."""
    context: Context


def measure_installed(names: Iterable[str], seen: Seen) -> list[Metric]:
    """The values of installed metrics; those that cannot be measured are left out.

    Raises DigitizeError(missing_dependency) for one that is not installed on this machine, and DigitizeError(internal)
    naming the package for a value that is not finite.
    """
    found = []
    for name in names:
        seen.context.check()
        module = load(name)
        value = module.measure(seen)
        if value is None:
            continue
        if not math.isfinite(value):
            message = f"expected a finite value of metric '{name}' from {module.__name__}, found {value}"
            raise DigitizeError(ReasonCode.INTERNAL, message, asset=seen.context.request.asset)
        found.append(Metric(name=name, value=float(value), unit=module.UNIT, better=module.BETTER, about=module.ABOUT))
    return found
