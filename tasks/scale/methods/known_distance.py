"""The distance between two points that are marked in photos: a scale bar, a ruler, two corners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from models.record import Record
from models.resources import Estimate, Resources
from models.scale import MarkedPoint, MeasuredScale

if TYPE_CHECKING:
    from tasks.context import Context

VERSION = "2"
PRESETS: dict[str, dict[str, object]] = {}


class Options(Record):
    """The keys of `scale: {kind: known_distance}`."""

    distance_m: float = Field(gt=0)
    """Metres between the two points. Measure the longest distance that is marked well in the photos."""
    uncertainty_m: float = Field(default=0.0, ge=0)
    """Standard deviation of `distance_m`. Give it where the published scale should tell how far it can be trusted."""
    a: MarkedPoint
    """One end of the distance. More photos from different sides make it more certain."""
    b: MarkedPoint
    """The other end."""


def photo_names(options: Options) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The photos that are marked, and where their names stand below `scale`."""
    for point in ("a", "b"):
        for name in getattr(options, point).pixels:
            yield name, (point, "pixels", name)


def resources(options: Options) -> Resources:
    """Next to nothing."""
    return Resources(cpus=1, memory_gb=0.5, scratch_gb=0.1, timeout_s=300)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """A moment: two points are triangulated."""
    return Estimate(seconds=0.5, memory_gb=0.3)


def measure(context: Context, options: Options) -> MeasuredScale:
    """Metres a unit, by triangulating both marked points with the solved cameras.

    The relative uncertainty is that of the tape measure and of the triangulation along the distance: marks are never
    trusted to better than a pixel.

    Raises DigitizeError(scale_unsolved) naming the marks that cannot be used.
    """
    import numpy as np

    from models.errors import DigitizeError, ReasonCode
    from tasks.scale.marks import MarkedPhotos, locate
    from tasks.stage_files import read_lenses, read_photos, read_poses

    photos = MarkedPhotos(read_poses(context), read_photos(context), read_lenses(context))
    a, b = locate("a", options.a, photos), locate("b", options.b, photos)
    gap = a.point - b.point
    distance = float(np.linalg.norm(gap))
    reach = float(np.median(np.linalg.norm(photos.centres - a.point, axis=1)))
    if distance < 1e-6 * reach:
        raise DigitizeError(ReasonCode.SCALE_UNSOLVED, "expected two points apart, found a and b at the same place")
    along = gap / distance
    spread = float(np.sqrt(along @ (a.covariance + b.covariance) @ along)) / distance
    given = options.uncertainty_m / options.distance_m
    return MeasuredScale(
        metres_per_unit=options.distance_m / distance,
        source="known_distance",
        uncertainty=float(np.hypot(spread, given)),
        residual_px=max(a.residual_px, b.residual_px),
        notes=tuple(f"mark of {name} in {why}" for name, point in (("a", a), ("b", b)) for why in point.lost),
    )
