"""The named sizes in which an asset is delivered, after the Smithsonian's public specification."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from models.record import Record

TierName = Literal["thumb", "low", "medium", "high", "ar", "full"]


class Tier(Record):
    """One size of the asset."""

    name: TierName
    faces: int
    """At most so many."""
    texture_size: int
    """Pixels along each map."""


TIERS: dict[TierName, Tier] = {
    tier.name: tier
    for tier in (
        Tier(name="thumb", faces=20_000, texture_size=1024),
        Tier(name="low", faces=150_000, texture_size=1024),
        Tier(name="medium", faces=150_000, texture_size=2048),
        Tier(name="high", faces=150_000, texture_size=4096),
        Tier(name="ar", faces=100_000, texture_size=2048),
    )
}
"""Every tier but `full`, which is the whole mesh without maps."""
MAIN_ORDER: tuple[TierName, ...] = ("high", "medium", "low", "ar", "thumb")
"""The first of these that is made is the asset proper: measured, shown in the report, and named without its tier."""


def planned(names: Iterable[TierName], faces: int, texture_size: int) -> tuple[Tier, ...]:
    """The tiers to make, the largest first, within the bounds on faces and texture; the first one is the main one.

    Tiers that the bounds make equal are still made: who asks for a name finds it.
    """
    wanted = set(names)
    return tuple(
        Tier(
            name=name,
            faces=min(TIERS[name].faces, faces),
            texture_size=min(TIERS[name].texture_size, texture_size),
        )
        for name in MAIN_ORDER
        if name in wanted
    )
