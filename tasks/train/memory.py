"""Smaller settings rather than no result: what is lowered, and in which order, until training fits into memory.

The limit is what the method declares for its options, so equal requests step down alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from models.camera import PoseSet
from models.errors import DigitizeError, ReasonCode
from tasks.context import Context
from tasks.train.costs import FIELD_LADDER, field_estimate
from tasks.train.options import HashFieldOptions

Chosen = TypeVar("Chosen", bound=HashFieldOptions)


def fitting(poses: PoseSet, options: Chosen, context: Context) -> tuple[Chosen, dict[str, float]]:
    """The largest settings that are expected to fit, and those of them that are lower than asked for.

    Raises:
        DigitizeError(out_of_memory): not even the smallest do.
    """
    megapixels = max((image.camera.width * image.camera.height / 1e6 for image in poses.images), default=0.0)
    limit = context.request.resources.memory_gb
    asked = options.model_dump()
    for settings in _smaller(options, len(poses.images) * megapixels * 4e-3):
        expected = field_estimate(settings, len(poses.images), megapixels).memory_gb
        if expected <= limit:
            return settings, {name: value for name, value in settings.model_dump().items() if value != asked[name]}
    raise DigitizeError(
        ReasonCode.OUT_OF_MEMORY,
        f"training is expected to take {expected:.1f} GB with the smallest settings, found a limit of {limit:.1f} GB",
        asset=context.request.asset,
    )


def _smaller(options: Chosen, photos_gb: float) -> Iterator[Chosen]:
    """The options, then ever smaller ones, by the steps of the method's ladder: first less of the photos at a time."""
    yield options
    chosen = options
    for name, lower in FIELD_LADDER.memory.items():
        value = getattr(chosen, name)
        if name == "photo_memory_gb":
            value = min(value, photos_gb)
        while (smaller := lower.apply(value)) < value:
            value = smaller
            chosen = chosen.model_copy(update={name: value})
            yield chosen
