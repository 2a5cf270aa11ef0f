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
FIRST_WAYS, WAYS = 16, 64
"""Directions looked along from every place, and from those that one of the first leads out of."""


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
    chosen = np.flatnonzero(grid)

    def leads_out(rays_o: FloatArray, way: FloatArray) -> npt.NDArray[np.bool_]:
        check()
        hits = caster.cast(rays_o, np.broadcast_to(way, rays_o.shape))
        out = np.asarray(hits.face < 0)
        if support is not None:  # what an object stands on closes nothing in where cameras see it, beside the object
            met = rays_o + np.where(out, 0.0, hits.t)[:, None] * way
            low = heights(support, transform_points(world_from_field, met)) < room
            index = np.rint((met - 2.0 * cell * way + 1.0) / cell).astype(np.int64).clip(0, n - 1)
            out |= low & seen[index[:, 0], index[:, 1], index[:, 2]]
        return out

    seen, cell = (above & ~hidden).reshape(n, n, n), 2.0 / RESOLUTION
    room = 2.0 * similarity_scale(world_from_field) * cell
    grid.ravel()[chosen] = openness(points[chosen], leads_out) < OPEN
    return np.asarray(grid)


def openness(points: FloatArray, leads_out: Callable[[FloatArray, FloatArray], npt.NDArray[np.bool_]]) -> FloatArray:
    """[N] share of directions, spread evenly, that lead out from points [N, 3]; 0 where none of the first does.

    Args:
        leads_out: of places [M, 3] along one direction [3].
    """
    found = np.zeros(len(points))
    for way in _spread(FIRST_WAYS):
        found += leads_out(points, way)
    some = np.flatnonzero(found)
    found[some] = 0.0
    for way in _spread(WAYS):
        found[some] += leads_out(points[some], way)
    return found / WAYS


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
