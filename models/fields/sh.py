"""Real spherical harmonics: the encoding of viewing directions."""

from __future__ import annotations

import torch
from torch import Tensor

SH_WIDTH = 16
"""Number of basis functions up to degree 3, the four bands that Instant-NGP calls degree 4."""


def spherical_harmonics(d: Tensor) -> Tensor:
    """[N, 16] orthonormal real spherical harmonics of unit directions [N, 3], bands 0 to 3."""
    x, y, z = d.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack(
        [
            torch.full_like(x, 0.28209479177387814),
            -0.48860251190291987 * y,
            0.48860251190291987 * z,
            -0.48860251190291987 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.94617469575755997 * zz - 0.31539156525251999,
            -1.0925484305920792 * x * z,
            0.54627421529603959 * (xx - yy),
            0.59004358992664352 * y * (yy - 3.0 * xx),
            2.8906114426405538 * x * y * z,
            0.45704579946446572 * y * (1.0 - 5.0 * zz),
            0.3731763325901154 * z * (5.0 * zz - 3.0),
            0.45704579946446572 * x * (1.0 - 5.0 * zz),
            1.4453057213202769 * z * (xx - yy),
            0.59004358992664352 * x * (3.0 * yy - xx),
        ],
        -1,
    )
