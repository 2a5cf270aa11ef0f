"""U^2-Net-p (Qin et al. 2020, "U2-Net: Going deeper with nested U-structure for salient object detection").

The weights are `u2netp` of `models/weights.txt`.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache

from models.weights import listed

WEIGHTS = "u2netp"
EXTERNAL = f"weights:{WEIGHTS}"
"""The name under which a method asks for the weights."""


@cache
def is_installed() -> bool:
    """Whether this machine has the package that carries the weights. Its bytes are checked where they are read."""
    weights = listed()[WEIGHTS]
    try:
        return importlib.metadata.version(weights.package) == weights.version
    except importlib.metadata.PackageNotFoundError:
        return False
