"""A seat whose underside nobody saw: the guess under it goes where photos contradict it, and only there."""

from __future__ import annotations

import numpy as np

from tasks.stereo.least_area import drawn_back

CELLS = 64
X, Y, Z = np.indices((CELLS,) * 3)
ASIDE = np.maximum(abs(X - 31.5), abs(Y - 31.5))
SEAT = (ASIDE < 24) & (Z >= 40) & (Z < 50)
HUMP = (ASIDE < 24) & (Z < 40) & (Z > 24 + 0.03 * ((X - 31.5) ** 2 + (Y - 31.5) ** 2))
BELOW = (ASIDE < 24) & (Z < 40) & ~HUMP
"""The rest of what the guess filled, down to the floor: photos know it to be free."""
SEEN = (abs(ASIDE - 24) < 3) & (Z >= 40) & (Z < 53) | (ASIDE < 27) & (abs(Z - 50) < 3)
"""The rim and the top."""


def test_the_guess_under_a_seat_ends_at_its_rim() -> None:
    lost = drawn_back(SEAT | HUMP, SEEN, BELOW)
    assert lost[HUMP].mean() > 0.95
    assert lost[SEAT].mean() < 0.03 and not lost[~(SEAT | HUMP)].any()


def test_a_guess_that_photos_hardly_touch_stays() -> None:
    shaved = HUMP & (Z <= 26 + 0.03 * ((X - 31.5) ** 2 + (Y - 31.5) ** 2))
    assert shaved.any()
    assert not drawn_back(SEAT | HUMP & ~shaved, SEEN, shaved).any()
    assert not drawn_back(SEAT | HUMP, SEEN, np.zeros_like(SEAT)).any()


def test_what_was_measured_stays() -> None:
    assert not drawn_back(SEAT | HUMP, SEEN | HUMP, BELOW).any()
