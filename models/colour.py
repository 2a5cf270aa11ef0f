"""What tells the true colours of a capture: a grey patch or a colour chart in one of its photos."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from models.record import Record

Pixel = tuple[float, float]
"""(u right, v down) in pixels of the upright photo at its original size, centres at +0.5."""


class GreyPatch(Record):
    """A neutral surface in a photo, marked by hand: a grey card, or anything that is known to be grey."""

    photo: str
    """The photo's name in the capture."""
    pixels: tuple[Pixel, ...] = ()
    """Places on the patch; 5 x 5 pixels around each count."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of a rectangle on the patch, instead of single places."""

    @model_validator(mode="after")
    def _one_way(self) -> GreyPatch:
        if bool(self.pixels) == (self.box is not None):
            raise ValueError("expected either `pixels: [[x, y], ...]` or `box: [x0, y0, x1, y1]`")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"box: expected [left, top, right, bottom], found {list(self.box)}")
        return self


class ColourChart(Record):
    """A colour chart in a photo."""

    photo: str
    """The photo's name in the capture."""
    kind: Literal["classic24"] = "classic24"
    """`classic24`: four rows of six patches, from dark skin to black."""
    corners: tuple[Pixel, Pixel, Pixel, Pixel] | None = None
    """The outer corners of the patches dark skin, bluish green, black and white, in this order, where the chart is not
    found by itself."""

    @model_validator(mode="after")
    def _convex(self) -> ColourChart:
        if self.corners is None:
            return self
        turns = []
        for k in range(4):
            (ax, ay), (bx, by), (cx, cy) = (self.corners[(k + step) % 4] for step in range(3))
            turns.append((bx - ax) * (cy - by) - (by - ay) * (cx - bx))
        if not all(turn > 0 for turn in turns):
            raise ValueError(
                "corners: expected them in the order dark skin, bluish green, black, white, which is clockwise, "
                f"found {[list(corner) for corner in self.corners]}"
            )
        return self


class GreyColour(Record):
    """White balance and exposure from a grey patch."""

    grey: GreyPatch
    reflectance: float = Field(default=0.18, gt=0.0, le=1.0)
    """Share of the light that the patch reflects."""


class ChartColour(Record):
    """White balance and exposure from a colour chart."""

    chart: ColourChart


def _tag(value: Any) -> str:
    is_chart = isinstance(value, ChartColour) or (isinstance(value, dict) and "chart" in value)
    return "[chart]" if is_chart else "[grey]"


ColourReference = Annotated[
    Annotated[GreyColour, Tag("[grey]")] | Annotated[ChartColour, Tag("[chart]")], Discriminator(_tag)
]
"""A grey patch or a chart; error messages leave tags in brackets out."""


def photo_of(reference: GreyColour | ChartColour) -> str:
    """The name of the photo that shows the reference."""
    return reference.grey.photo if isinstance(reference, GreyColour) else reference.chart.photo
