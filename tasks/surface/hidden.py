"""What no camera can see into: voids inside an object, which photographs say nothing about, are taken as solid.

A radiance field is only told about what cameras see. Behind the surface it is free to be empty, and where the surface
has a crack the walls of that emptiness would become part of the mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.camera import Matrix4, Plane, similarity_scale, transform_points
from models.mesh.mesh import FloatArray, Mesh
from models.mesh.raycast import RayCaster
from tasks.surface.support import heights

RESOLUTION = 128
"""Cells of the grid along the cube. One cell is kept clear of everything seen."""
SIGHTS = 3
"""Cameras that must see a place for it to be empty: a crack shows the inside to one or two."""
OPEN = 0.15
"""Share of all directions that lead out of a place from which on it is no void: the dark under a seat is open though no
camera looks up there."""
FIRST_DIRECTIONS, DIRECTIONS = 16, 64
"""Looked along from every place, and from those that one of the first leads out of."""

LeadsOut = Callable[[FloatArray, FloatArray], npt.NDArray[np.bool_]]
"""Whether rays from places [N, 3] along one direction [3] leave the object: [N]."""


def hidden_cells(
    surface: Mesh,
    eyes: Sequence[FloatArray],
    world_from_field: Matrix4,
    support: Plane | None,
    threads: int = 0,
    check: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.bool_]:
    """Points of a grid over the cube that lie inside the object or in a void that it encloses.

    A point counts when the surface hides it and all its neighbours from all cameras but a few (SIGHTS) and closes it in
    nearly all around (OPEN), and when its connected region touches no wall of the cube: what lies behind a facade is
    unknown, not solid. Below the support nothing counts.

    Args:
        surface: a first surface, in field coordinates.
        eyes: camera centres [3] in field coordinates.
        world_from_field: similarity from the cube to the world, in which `support` is given.

    Returns:
        [n, n, n] for points at linspace(-1, 1, n) along x, y, z; n = RESOLUTION + 1.
    """
    from scipy.ndimage import binary_erosion, label

    n = RESOLUTION + 1
    axis = np.linspace(-1.0, 1.0, n)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    above = np.ones(len(points), bool)
    if support is not None:
        above = heights(support, transform_points(world_from_field, points)) > 0
    hidden = above & _within(points, surface)
    caster = RayCaster(surface, threads)
    needed = min(SIGHTS, 1 + len(eyes) // 8)
    sights = np.zeros(len(points), np.int64)
    for eye in eyes:
        check()
        left = np.nonzero(hidden)[0]
        sights[left[caster.visible(points[left], eye, 1e-4)]] += 1
        hidden[left] = sights[left] < needed
    # what lies below the support hides what is above it: only things that are seen keep the grown margin clear
    grid = binary_erosion((hidden | ~above).reshape(n, n, n), np.ones((3, 3, 3), bool), border_value=1)
    grid &= above.reshape(n, n, n)
    regions, _ = label(grid)
    open_ended = np.unique(np.concatenate([regions.take((0, -1), axis=k).ravel() for k in range(3)]))
    grid &= ~np.isin(regions, open_ended[open_ended > 0])
    chosen = np.nonzero(grid.ravel())[0]
    leads_out = _exits(caster, (above & ~hidden).reshape(n, n, n), world_from_field, support, check)
    np.put(grid, chosen, openness(points[chosen], leads_out) < OPEN)
    return np.asarray(grid)


def _exits(
    caster: RayCaster,
    seen: npt.NDArray[np.bool_],
    world_from_field: Matrix4,
    support: Plane | None,
    check: Callable[[], None],
) -> LeadsOut:
    """Tells where rays leave the object: they meet nothing, or the support beside it.

    Args:
        seen: [n, n, n] points of the grid above the support that cameras see. Ground that none sees, as below the foot
            of a vase, closes a hollow; ground under a seat is seen from aside.
    """
    cell = 2.0 / RESOLUTION
    room = 2.0 * similarity_scale(world_from_field) * cell

    def leads_out(rays_o: FloatArray, direction: FloatArray) -> npt.NDArray[np.bool_]:
        check()
        hits = caster.cast(rays_o, np.broadcast_to(direction, rays_o.shape))
        out = np.asarray(hits.face < 0)
        if support is None:
            return out
        met = rays_o + np.where(out, 0.0, hits.t)[:, None] * direction
        low = heights(support, transform_points(world_from_field, met)) < room
        before = np.rint((met - 2.0 * cell * direction + 1.0) / cell).astype(np.int64).clip(0, RESOLUTION)
        return np.asarray(out | (low & seen[before[:, 0], before[:, 1], before[:, 2]]))

    return leads_out


def openness(points: FloatArray, leads_out: LeadsOut) -> FloatArray:
    """[N] share of directions, spread evenly, that lead out from points [N, 3]; 0 where none of the first does."""
    found = np.zeros(len(points))
    for direction in _spread(FIRST_DIRECTIONS):
        found += leads_out(points, direction)
    some = np.flatnonzero(found)
    found[some] = 0.0
    for direction in _spread(DIRECTIONS):
        found[some] += leads_out(points[some], direction)
    return found / DIRECTIONS


def _spread(count: int) -> FloatArray:
    """[N, 3] unit vectors spread evenly: a Fibonacci lattice."""
    k = np.arange(count)
    height, turn = 1.0 - (2.0 * k + 1.0) / count, k * np.pi * (1.0 + 5.0**0.5)
    ring = np.sqrt(1.0 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], 1)


def _within(points: FloatArray, surface: Mesh) -> npt.NDArray[np.bool_]:
    """[N] whether points lie in the surface's box, with two cells to spare."""
    room = 4.0 / RESOLUTION
    low, high = surface.vertices.min(0) - room, surface.vertices.max(0) + room
    return np.asarray(((points >= low) & (points <= high)).all(1))
