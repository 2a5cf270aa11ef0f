"""The options that every pose method has. Light."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from models.camera import FloatArray, Vector3
from models.record import Record


class Region(Record):
    """A region of interest given by hand, in the frame of an earlier run's pose stage, which knows no metres: divide
    lengths of published files by `metres_per_unit` of the scale stage.

    Either `centre` and `half_size` (a cube), or `minimum` and `maximum` (a box, which the cube encloses).
    """

    centre: Vector3 | None = None
    half_size: float | None = Field(default=None, gt=0)
    minimum: Vector3 | None = None
    maximum: Vector3 | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        cube = (self.centre is not None, self.half_size is not None)
        box = (self.minimum is not None, self.maximum is not None)
        if (all(cube), all(box)) not in {(True, False), (False, True)} or (any(cube) and any(box)):
            raise ValueError("region: expected centre and half_size, or minimum and maximum")
        if self.minimum and self.maximum and any(a >= b for a, b in zip(self.minimum, self.maximum, strict=True)):
            raise ValueError(f"region: expected minimum < maximum on each axis, found {self.minimum}, {self.maximum}")
        return self

    @property
    def cube(self) -> tuple[FloatArray, float]:
        """Centre [3] and half the edge of the cube."""
        if self.centre is not None and self.half_size is not None:
            return np.array(self.centre, dtype=np.float64), self.half_size
        low, high = np.array(self.minimum, dtype=np.float64), np.array(self.maximum, dtype=np.float64)
        return (low + high) / 2.0, float((high - low).max() / 2.0)


class PoseOptions(Record):
    """Options that every pose method has."""

    max_features: int = Field(default=6000, ge=500, le=50000)
    """SIFT features a photo. More help smooth or large objects; the time for matching grows with the square."""
    feature_edge_px: int = Field(default=1600, ge=320)
    """Photos are searched for features at this long edge at most. Raise it for fine, sharp detail."""
    exhaustive_limit: int = Field(default=120, ge=2)
    """Up to this many photos every pair is matched; beyond, neighbours in name order and the most alike photos."""
    neighbours: int = Field(default=25, ge=4)
    """Look-alikes that each photo is matched with beyond `exhaustive_limit`. Raise it when a capture falls apart."""
    features_in_masks: bool = True
    """Filled in: photos are searched for features inside their masks alone; not where the masks' role is `outline`."""
    region: Region | None = None
    """The region of interest, where the one that is found is not what you want."""
    region_margin: float = Field(default=0.12, ge=0, le=1)
    """Room left around the object on each side, as a share of its size. Raise it when the object is cut off."""
    heldout_every: int = Field(default=8, ge=2)
    """One photo in this many is kept out of training, to measure quality with."""
