"""A metric in one file: how close the published mesh is to a ball."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.quality.installed import Seen

VERSION = "1"
UNIT = ""
BETTER = "higher"
ABOUT = "Isoperimetric quotient 36 pi V^2 / A^3 of the published mesh: 1 for a ball."


def measure(seen: Seen) -> float | None:
    """None for a mesh without area."""
    import numpy as np

    corners = seen.mesh.vertices[seen.mesh.faces]
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = float(np.linalg.norm(crossed, axis=1).sum()) / 2.0
    volume = float(np.einsum("ij,ij->i", corners[:, 0], crossed).sum()) / 6.0
    return 36.0 * math.pi * volume**2 / area**3 if area > 0 else None
