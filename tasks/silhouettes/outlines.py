"""Outlines without a mask drawn by hand: wider ones, and those of the sparse points above the support."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.camera import Matrix4, Plane, transform_points
from models.mesh.mesh import Mesh

BoolArray = npt.NDArray[np.bool_]

DILATION = 0.02
"""Width of the band around a silhouette, as a share of the longer side of its bounding box."""
ABOVE_SUPPORT = 0.01
"""Least height of a point above the support, as a share of the cube's side."""
TRIM = 0.005
"""Share of the points left out at either end along each axis: stray points would blow up the hull."""
MINIMUM_POINTS = 50


def dilate(mask: npt.ArrayLike, share: float = DILATION) -> BoolArray:
    """Widen a mask [H, W] by `share` of the longer side of its bounding box, in every direction."""
    from scipy.ndimage import distance_transform_edt

    inside = np.asarray(mask, dtype=bool)
    if not inside.any() or inside.all():
        return inside
    v, u = np.nonzero(inside)
    size = max(int(np.ptp(v)), int(np.ptp(u))) + 1
    return np.asarray(distance_transform_edt(~inside) <= share * size)


def points_above_support(xyz: npt.ArrayLike, world_from_field: Matrix4, support: Plane) -> Mesh | None:
    """The convex hull of the sparse points [P, 3] in the cube above the support; None for fewer than 50 of them."""
    from scipy.spatial import ConvexHull, QhullError

    x = np.asarray(xyz, dtype=np.float64)
    local = transform_points(np.linalg.inv(np.array(world_from_field)), x)
    normal = np.array(support.normal)
    height = (x @ normal + support.offset) / np.linalg.norm(normal)
    side = 2.0 * float(np.cbrt(np.linalg.det(np.array(world_from_field)[:3, :3])))
    x = x[(np.abs(local) <= 1.0).all(1) & (height > ABOVE_SUPPORT * side)]
    if len(x) < MINIMUM_POINTS:
        return None
    low, high = np.quantile(x, TRIM, axis=0), np.quantile(x, 1.0 - TRIM, axis=0)
    x = x[((x >= low) & (x <= high)).all(1)]
    try:
        hull = ConvexHull(x)
    except QhullError:
        return None
    return Mesh(x, hull.simplices.astype(np.int64))
