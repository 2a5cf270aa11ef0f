"""A first shape from a thin, quickly trained radiance field: fog settles in hollows that a surface would have to reach
by sinking into them, from one local minimum to the next."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, grid_sample, max_pool3d, pad

from models.fields.hash_density import HashDensityField
from models.fields.hash_sdf import HashSDFField
from models.fields.kernels.ops import SparseAdam
from models.fields.occupancy import cell_centres

SIDE = 96
"""Cells along an edge of the grid that the shape is read on."""
SOLID = 0.4
"""Opacity of a cell, blurred over its neighbours, from which on it is solid."""
BAND = 16
"""Distances are known up to that many cells; beyond, they stay at that."""
CHUNK = 1 << 17
STEPS, POINTS, RATE, NEARNESS = 150, 1 << 14, 1e-2, 0.1
"""Of the fit of a field to distances; those within NEARNESS count most."""


@torch.no_grad()
def rough_shape(field: HashDensityField) -> Tensor:
    """[SIDE, SIDE, SIDE] signed distances in field units at the cells' centres, index (z, y, x), negative inside.

    Solid is what is dense, and what cannot be reached from the cube's faces without passing it.
    """
    device = next(field.parameters()).device
    cell = 2.0 / SIDE
    centres = cell_centres(SIDE).to(device)
    density = torch.cat([field.query(part)[0] for part in centres.split(CHUNK)])  # type: ignore[no-untyped-call]
    density = density * field.cells.occupied(centres)
    opacity = (1.0 - torch.exp(-density * cell)).view(1, 1, SIDE, SIDE, SIDE)
    dense = avg_pool3d(opacity, 3, 1, 1) > SOLID
    free = _outside(~dense)
    return distances(free[0, 0]) * cell


def imprint(field: HashSDFField, table: SparseAdam, grid: Tensor, generator: torch.Generator) -> None:
    """Fit a field's distances to those on a grid [G, G, G] over the cube, index (z, y, x).

    Args:
        table: what optimises the field's encoding.
    """
    nets = torch.optim.Adam(field.value_net.parameters(), lr=RATE, fused=True)
    for _ in range(STEPS):
        x = torch.rand(POINTS, 3, generator=generator, device=grid.device) * 2.0 - 1.0
        places = x[None, None, None]
        target = grid_sample(grid[None, None], places, align_corners=False, padding_mode="border").view(-1)
        weight = torch.exp(-target.abs() / NEARNESS) + 0.1
        nets.zero_grad()
        loss = ((field.query(x)[0] - target).abs() * weight).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        nets.step()
        table.step(RATE)


def _outside(empty: Tensor) -> Tensor:
    """[1, 1, G, G, G] bool: the part of what is empty that is joined to the grid's faces."""
    room = pad(empty.float(), (1, 1, 1, 1, 1, 1), value=1.0)
    reached = torch.zeros_like(room)
    reached[..., 0, :, :] = 1.0
    while True:
        further = max_pool3d(reached, 3, 1, 1) * room
        if torch.equal(further, reached):
            return reached[..., 1:-1, 1:-1, 1:-1] > 0
        reached = further


def distances(outside: Tensor) -> Tensor:
    """[G, G, G] signed distances in cells to the border between cells [G, G, G] bool that are outside and the others.

    Chamfer distances (Borgefors 1986) over 26 neighbours: up to 8 % too long, which training mends.
    """
    return _distance_to(~outside) - _distance_to(outside)


def _distance_to(seeds: Tensor) -> Tensor:
    """[G, G, G] distance in cells to the seeds' border: 0 in them, half a cell next to them, BAND at most."""
    found = torch.where(seeds, 0.0, float(BAND))
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if step != (0, 0, 0)]
    side = seeds.shape[0]
    for _ in range(BAND):
        room = pad(found, (1, 1, 1, 1, 1, 1), value=float(BAND))
        for z, y, x in steps:
            moved = room[1 + z : 1 + z + side, 1 + y : 1 + y + side, 1 + x : 1 + x + side]
            found = torch.minimum(found, moved + (z * z + y * y + x * x) ** 0.5)
    return (found - 0.5).clamp(min=0.0)
