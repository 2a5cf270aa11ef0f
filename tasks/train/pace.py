"""How long the rest of a run takes, from how long recent steps took."""

from __future__ import annotations

from collections import deque

import numpy as np

RECENT = 256
"""Steps that are looked back on."""
BLOCK = 16
"""Steps that are averaged first: what counts is how fast the machine is, not how uneven single steps are."""


class Pace:
    """Durations of recent steps, evaluations and snapshots included."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float) -> None:
        """One more step took that long."""
        self.recent.append(seconds)

    def remaining(self, steps: int) -> tuple[float, float] | None:
        """Low and high estimate in seconds of `steps` more: at the pace of fast and of slow stretches.

        None before two blocks of steps were seen.
        """
        blocks = len(self.recent) // BLOCK
        if blocks < 2:
            return None
        times = np.array(self.recent)[-blocks * BLOCK :].reshape(blocks, BLOCK).mean(1)
        low, high = np.percentile(times, (10, 90))
        return float(low) * steps, float(high) * steps
