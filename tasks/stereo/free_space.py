"""A closed surface is cut back to what photos leave of it.

Bridging gaps smoothly fills space between the parts of an object that photos look straight through. The voxels inside
the surface that no depth map measured are put to the photos' vote (after Kutulakos and Seitz 2000, with a measured
surface for colour), and the surface is drawn again around those that are left. What was measured stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from models.camera import Matrix4, Plane, similarity_scale, transform_points
from models.mesh.mesh import Mesh
from tasks.stereo.least_area import drawn_back
from tasks.stereo.sights import BoolArray, Sight, vote
from tasks.stereo.signed_grid import dilated, signed_grid
from tasks.stereo.tsdf import TRUNCATION, Grid, zero_level

SLACK = 1.5
"""Voxels behind a voxel from which on a photo sees through it."""
DEEP = 0.5
"""Truncations behind a measured surface beyond which nothing is known."""
BAND = 4
"""Voxels around the free ones in which the surface is drawn again."""
SOFTNESS = 2.0
"""Standard deviation in voxels of the smoothing of the free voxels' border."""
_SLOPE = SOFTNESS * float(np.sqrt(2.0 * np.pi)) / TRUNCATION
"""Truncations in a smoothed step from 0 to 1, by its slope where it crosses one half."""


def without_free_space(
    measured: Grid,
    closed: Mesh,
    sights: Iterable[Sight],
    support: Plane | None,
    world_from_field: Matrix4,
    check: Callable[[], None] = lambda: None,
) -> Mesh:
    """A mesh that bridges all gaps, without the space that photos know to be free; closed.

    Args:
        measured: [R, R, R] distances as of `tsdf_grid`, NaN where nothing was measured.
        closed: faces towards the outside; it may be open beyond the region and below the support.
        sights: of photos all around.
        support: what lies below it is free.
        world_from_field: the region.
    """
    resolution = len(measured)
    values = signed_grid(closed, world_from_field, resolution)
    check()
    values[np.isfinite(measured)] = measured[np.isfinite(measured)]
    # a slanted ray also counts as inside what lies behind an edge
    known = measured > -DEEP
    inside = np.flatnonzero((values <= 0.0) & ~known)
    index = np.stack(np.unravel_index(inside, known.shape), 1)
    xyz = transform_points(world_from_field, (index + 0.5) * (2.0 / resolution) - 1.0).astype(np.float32)
    empty = vote(xyz, sights, SLACK * 2.0 * similarity_scale(world_from_field) / resolution, check).free
    under = np.zeros(len(xyz), bool)
    if support is not None:
        under = xyz @ np.array(support.normal, np.float32) + support.offset < 0.0
    empty |= under
    free = np.zeros(known.shape, bool)
    free.reshape(-1)[inside] = empty
    free = _open_to(free, values > 0.0)
    below = np.zeros(known.shape, bool)
    below.reshape(-1)[inside] = under
    free |= drawn_back((values <= 0.0) & ~free, known, free & ~below, check)
    values = _cut(values, known, free)
    for axis in range(3):
        faces = np.moveaxis(values, axis, 0)
        faces[[0, -1]] = np.maximum(faces[[0, -1]], 1.0)
    return zero_level(values, world_from_field)


def _open_to(free: BoolArray, outside: BoolArray) -> BoolArray:
    """The free voxels that others join to the outside: no photo sees into an enclosed hollow, so it is a mistake."""
    from scipy.ndimage import label

    label_of, count = label(free | outside)
    joined = np.zeros(count + 1, bool)
    joined[np.unique(label_of[outside])] = True
    return np.asarray(free & joined[label_of])


def _cut(values: Grid, known: BoolArray, free: BoolArray) -> Grid:
    """The distances with the free voxels outside, and with a smooth border around them where nothing was measured."""
    from scipy.ndimage import gaussian_filter

    if not free.any():
        return values
    empty = (free | (values > 0.0)).astype(np.float32)
    soft = (gaussian_filter(empty, SOFTNESS) - 0.5) * np.float32(_SLOPE)
    return np.where(dilated(free, BAND) & ~known, soft, values)
