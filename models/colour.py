"""What tells the true colours of a capture: a grey patch in one of its photos."""

from __future__ import annotations

from pydantic import Field, model_validator

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


class GreyColour(Record):
    """White balance and exposure from a grey patch."""

    grey: GreyPatch
    reflectance: float = Field(default=0.18, gt=0.0, le=1.0)
    """Share of the light that the patch reflects."""
