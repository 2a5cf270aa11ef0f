"""What dense stereo knows, as a prior of fields: oriented points, cells that must stay empty, and a first shape.

Points place the surface where they are (Instant-angelo; NeuralWarp and Geo-NeuS do so with sparse ones). Rendered depth
is not compared: of a blurred surface it is biased (Fu et al. 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool3d

from models.camera import PoseSet, similarity_scale, transform_points
from models.fields.occupancy import cell_centres
from models.mesh.mesh import Mesh
from tasks.context import Context
from tasks.dense_surface import Measured, bridged, guiding_surface, read_dense_points, sights
from tasks.stereo.fusion import Points
from tasks.stereo.sights import vote
from tasks.stereo.signed_grid import signed_grid
from tasks.stereo.tsdf import TRUNCATION
from tasks.train.initial_shape import SIDE, distances

OUTSIDE_CELLS = 2.0
"""Cells that the surface may move outwards from the first shape where photos do not ask for more."""
EMPTY_CELLS = 8.0
"""Cells around the first shape within which the surface is kept out of what is empty or hidden from all photos: no ray
passes there, and a surface that grows into it would meet nothing that drives it back."""
SIGHT_PX = 400
"""Long edge of the pictures in which photos vote on free space."""


class Drawn(NamedTuple):
    """Some of the points."""

    x: Tensor
    """[N, 3] field coordinates."""
    normal: Tensor
    """[N, 3] unit, towards the outside."""
    weight: Tensor
    """[N] in [0, 1]: the photos' correlation there."""


class DensePrior:
    """What dense stereo knows of the region, in field coordinates.

    Args:
        points: at least one.
        free: [G, G, G] bool, index (z, y, x): cells that must stay empty.
        shape: [S, S, S] signed distances in field units at cell centres, index (z, y, x), negative inside; closed.
        outside: [M, 3] centres of cells outside the shape that need not stay empty.
        unseen: [N, 3] centres of cells around the shape where no photo would miss a surface; `cell` is their side.
    """

    def __init__(
        self, points: Drawn, free: Tensor, shape: Tensor, outside: Tensor, unseen: Tensor, cell: float
    ) -> None:
        self.points, self.free, self.shape, self.cell = points, free, shape, cell
        self.outside, self.unseen = outside, unseen

    def to(self, device: str) -> DensePrior:
        """The same on a device."""
        points = Drawn(*(part.to(device) for part in self.points))
        free, shape = self.free.to(device), self.shape.to(device)
        return DensePrior(points, free, shape, self.outside.to(device), self.unseen.to(device), self.cell)

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """Points at random, with replacement."""
        chosen = torch.randint(len(self.points.x), (count,), generator=generator, device=self.points.x.device)
        return Drawn(*(part.index_select(0, chosen) for part in self.points))

    def draw_outside(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """[N, 3] random places outside the shape, and [N] how far out they lie, at most a cell. Half of them where
        nothing forbids a surface: where colours do not tell, as in the shadow under a seat, there is none. Half of them
        in the unseen. `count`, or half of it, or none at all."""
        drawn = [self._near(cells, count // 2, generator) for cells in (self.outside, self.unseen) if len(cells)]
        places = torch.cat(drawn) if drawn else self.outside
        away = grid_sample(self.shape[None, None], places.view(1, 1, 1, -1, 3), align_corners=False)
        return places, away.view(-1).clamp(max=self.cell)

    def _near(self, cells: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """[count, 3] random places in some of the cells."""
        chosen = torch.randint(len(cells), (count,), generator=generator, device=cells.device)
        aside = torch.rand(count, 3, generator=generator, device=cells.device) - 0.5
        return cells.index_select(0, chosen) + self.cell * aside


def read_dense_prior(poses: PoseSet, cells: int, masks: bool, whole: bool, context: Context) -> DensePrior | None:
    """The prior of an asset whose photos went through dense stereo; None where it found no surface.

    Args:
        cells: along an edge of the occupancy grid.
        masks: whether what lies outside the photos' masks is empty.
        whole: whether photos are learned with what lies outside their masks: the support is part of the shape then.
    """

    found = read_dense_points(context)
    points = _in_field(found, poses)
    context.progress(0.0, "surface of the depth maps", {})
    measured = guiding_surface(found, poses, context)
    if len(points.x) == 0 or measured is None:
        return None
    context.progress(0.0, "free space", {})
    shape = _shape(bridged(measured, poses, context), poses)
    away = _resampled(shape, cells)
    clear, hidden = _votes(measured, cells, poses, masks, context)
    if whole and poses.support is not None:
        # a field that may not show the support paints its colours on what is in front
        shape = torch.minimum(shape, _height(poses, SIDE))
        height = _height(poses, cells)
        away, clear = torch.minimum(away, height), clear & (height > OUTSIDE_CELLS * 2.0 / cells)
    return _prior(points, shape, away, clear, hidden)


def _prior(points: Drawn, shape: Tensor, away: Tensor, clear: Tensor, hidden: Tensor) -> DensePrior:
    """The prior of cells [G, G, G] that are `away` from the shape: clear of everything, or hidden from all photos."""
    cells = len(away)
    cell, centres = 2.0 / cells, cell_centres(cells)
    free = clear | (hidden & (away > OUTSIDE_CELLS * cell))
    outside = ~free & (away > OUTSIDE_CELLS * cell)
    unseen = (clear | hidden) & (away > 0.0) & (away < EMPTY_CELLS * cell)
    return DensePrior(points, free, shape, centres[outside.view(-1)], centres[unseen.view(-1)], cell)


def _in_field(points: Points, poses: PoseSet) -> Drawn:
    """The points inside the region."""
    similarity = np.array(poses.world_from_field)
    x = transform_points(np.linalg.inv(similarity), points.xyz).astype(np.float32)
    turned = points.normal @ (similarity[:3, :3] / similarity_scale(similarity)).astype(np.float32)
    inside = (np.abs(x) < 1.0).all(1)
    return Drawn(*(torch.from_numpy(np.ascontiguousarray(part[inside])) for part in (x, turned, points.confidence)))


def _height(poses: PoseSet, cells: int) -> Tensor:
    """[G, G, G] how far the centres of cells lie above the support, in field units."""
    assert poses.support is not None
    world = transform_points(poses.world_from_field, cell_centres(cells).numpy())
    above = world @ np.array(poses.support.normal) + poses.support.offset
    scaled = (above / similarity_scale(poses.world_from_field)).astype(np.float32)
    return torch.from_numpy(scaled).view(cells, cells, cells)


def _resampled(shape: Tensor, cells: int) -> Tensor:
    """[G, G, G] the distances at the centres of other cells."""
    places = cell_centres(cells).view(1, cells, cells, cells, 3)
    return grid_sample(shape[None, None], places, align_corners=False, padding_mode="border")[0, 0]


def _votes(measured: Measured, cells: int, poses: PoseSet, masks: bool, context: Context) -> tuple[Tensor, Tensor]:
    """[G, G, G] bool each, by the vote of the photos on the cells' centres: cells that are free with all of their
    neighbours, and those that every photo has behind the surface."""
    world = transform_points(poses.world_from_field, cell_centres(cells).numpy()).astype(np.float32)
    diagonal = 2.0 * np.sqrt(3.0) * similarity_scale(poses.world_from_field) / cells
    voted = vote(world, sights(measured.mesh, poses, SIGHT_PX, context, masks), diagonal, context.check)
    free, hidden = (torch.from_numpy(each).view(1, 1, cells, cells, cells) for each in voted)
    return max_pool3d((~free).float(), 3, 1, 1)[0, 0] == 0.0, hidden[0, 0]


def _shape(mesh: Mesh, poses: PoseSet) -> Tensor:
    """[SIDE, SIDE, SIDE] distances to a closed mesh, index (z, y, x); exact near it, counted in cells beyond."""
    near = torch.from_numpy(signed_grid(mesh, poses.world_from_field, SIDE)).permute(2, 1, 0).contiguous()
    cell = 2.0 / SIDE
    return torch.where(near.abs() < 1.0, near * (TRUNCATION * cell), distances(near > 0) * cell)
