"""The size of an asset: what the scale stage finds, and points that are marked in photos to find it by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.record import Record

POSES, NONE = "poses", "none"
"""Sources of a scale beside the kinds that measure one: poses that were given in metres, and nothing."""


class MarkedPoint(Record):
    """One physical point, marked by hand in photos."""

    pixels: dict[str, tuple[float, float]] = Field(min_length=2)
    """Photo name -> (u right, v down) in pixels of the upright photo at its original size, centres at +0.5."""


class MeasuredScale(Record):
    """What the scale stage hands on. File: `scale.json`."""

    metres_per_unit: float | None = Field(default=None, gt=0)
    """Metres for one unit of `poses.json`; None where the size is not known."""
    source: str = NONE
    """The kind of scale that measured it, `poses`, or `none`."""
    uncertainty: float | None = Field(default=None, ge=0)
    """Relative standard deviation, where it is known."""
    residual_px: float | None = Field(default=None, ge=0)
    """Root mean square distance, in pixels of the stored photos, between what was measured in photos and where the
    cameras see it; None where nothing was measured in photos."""

    notes: tuple[str, ...] = ()
    """What of the specification could not be used, and why."""

    @property
    def units(self) -> Literal["metre", "arbitrary"]:
        """The unit of lengths after they are multiplied by `factor`."""
        return "arbitrary" if self.metres_per_unit is None else "metre"

    @property
    def factor(self) -> float:
        """What lengths are multiplied by for publication."""
        return 1.0 if self.metres_per_unit is None else self.metres_per_unit
