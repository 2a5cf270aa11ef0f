"""The object by depth: what stands on the support where the cameras look, and what no photo sees through.

Every cell of a grid over the region is put to the vote: a photo whose depth lies behind the cell sees through it. What
is left is the shape even where plain surfaces have no depth of their own, as long as what lies behind them has one
(after Kutulakos and Seitz 2000, with depth for colour).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.camera import FloatArray, Matrix4, Plane, similarity_scale
from models.camera import transform_points as transform
from models.mesh.mesh import Mesh
from tasks.context import Context
from tasks.mask.background import visible_pixels
from tasks.mask.gate import common_point, level_frame
from tasks.mask.photos import MaskPhotos
from tasks.mask.region import fit_region
from tasks.mask.views import BLOCKED, View

BoolArray = npt.NDArray[np.bool_]

COARSE, FINER = 96, 2
"""Cells along the region's side at first, and how much finer they get near the surface."""
FEW, THROUGH = 2, 0.15
"""Photos that may see through a cell by mistake: so many, or that share of those whose depth lies at it or beyond."""
SLACK = 1.5
"""Cells behind a cell from which on a depth sees through it."""
LOWEST = 1.75
"""Height above the support in cells below which the support itself hides whether a cell is empty."""
FRAMED = 0.5
"""Share of the photos that must frame a cell."""
ROOM = 0.04
"""Around a body that is carved again in a cube of its own, as a share of its size."""
SMALLEST = 50
"""Cells of an object."""
_CHUNK = 1 << 19


def carve_by_depth(
    photos: MaskPhotos, found: list[View], support: Plane, context: Context, region: Matrix4 | None = None
) -> Mesh | None:
    """The piece of what the depth maps leave above the support that is nearest to what the cameras look at; None where
    they leave nothing.

    Args:
        region: takes [-1, 1]^3 to the cube that is searched; the capture's region of interest where it is None.
    """
    grid = _Grid(photos, support, COARSE, region or photos.poses.world_from_field)
    solid = grid.solid(found, np.arange(grid.cells**3), context)
    for _ in range(int(np.log2(FINER))):
        grid, inherited, again = grid.refined(solid)
        solid = inherited.copy()
        solid.reshape(-1)[again] = grid.solid(found, again, context).reshape(-1)[again]
    piece = _nearest_piece(solid, grid.cell_of(common_point(photos)))
    return None if piece is None else grid.surface(grid.down_to_support(piece))


def region_around(photos: MaskPhotos, body: Mesh) -> Matrix4:
    """A cube around a body with a little room, on the axes of the region of interest."""
    level = level_frame(photos)
    corners = body.vertices @ level.T
    return fit_region(corners.min(0), corners.max(0), level, ROOM)


def touches_region(mesh: Mesh, world_from_field: Matrix4) -> bool:
    """Whether a mesh reaches a face of the region other than those along the support's normal below it: it is cut."""
    local = transform(np.linalg.inv(np.array(world_from_field)), mesh.vertices)
    rim = 1.0 - 2.0 / COARSE
    return bool((np.abs(local[:, :2]) > rim).any() or (local[:, 2] > rim).any())


class _Grid:
    """A cube of cells over the region, and the part of it above the support."""

    def __init__(self, photos: MaskPhotos, support: Plane, cells: int, world_from_field: Matrix4) -> None:
        self.cells, self._photos, self._support = cells, photos, support
        self._world_from_field = world_from_field
        self.edge = 2.0 * similarity_scale(self._world_from_field) / cells

    def solid(self, found: list[View], index: npt.NDArray[np.int64], context: Context) -> BoolArray:
        """[G, G, G] which of the cells with these row-major numbers [N] few photos see through."""
        result = np.zeros(self.cells**3, bool)
        for start in range(0, len(index), _CHUNK):
            context.check()
            part = index[start : start + _CHUNK]
            result[part] = self._unseen_through(found, self._centres(part))
        return result.reshape((self.cells,) * 3)

    def refined(self, solid: BoolArray) -> tuple[_Grid, BoolArray, npt.NDArray[np.int64]]:
        """The grid of half the edge, what its cells inherit, and the numbers of those that are to be asked anew."""
        from scipy.ndimage import binary_dilation, binary_erosion

        near = binary_dilation(solid, iterations=2) & ~binary_erosion(solid, iterations=2)
        twice = [each.repeat(2, 0).repeat(2, 1).repeat(2, 2) for each in (solid, near)]
        return (
            _Grid(self._photos, self._support, 2 * self.cells, self._world_from_field),
            twice[0],
            np.flatnonzero(twice[1]),
        )

    def cell_of(self, point: FloatArray) -> FloatArray:
        """[3] where a point of the world lies, in cells."""
        local = transform(np.linalg.inv(np.array(self._world_from_field)), point[None])[0]
        return np.asarray((local + 1.0) * (self.cells / 2.0) - 0.5)

    def down_to_support(self, solid: BoolArray) -> BoolArray:
        """The cells [G, G, G] with those below them that are too near to the support to be voted on."""
        result = solid.copy()
        for _ in range(int(np.ceil(LOWEST))):
            below = np.zeros_like(result)
            below[:, :, :-1] = result[:, :, 1:]
            fresh = np.flatnonzero(below & ~result)
            height = self._height(self._centres(fresh))
            result.reshape(-1)[fresh[(height > 0) & (height <= LOWEST * self.edge)]] = True
        return result

    def surface(self, solid: BoolArray) -> Mesh:
        """The border of the cells that are set [G, G, G], in the world."""
        from scipy.ndimage import gaussian_filter
        from skimage.measure import marching_cubes

        soft = gaussian_filter(np.pad(solid, 2).astype(np.float32), 0.7)
        vertices, faces, _, _ = marching_cubes(soft, 0.5)
        places = (vertices - 2.0 + 0.5) * (2.0 / self.cells) - 1.0
        return Mesh(transform(self._world_from_field, places), faces.astype(np.int64))

    def _centres(self, index: npt.NDArray[np.int64]) -> FloatArray:
        cell = np.stack(np.unravel_index(index, (self.cells,) * 3), 1)
        return transform(self._world_from_field, (cell + 0.5) * (2.0 / self.cells) - 1.0)

    def _height(self, xyz: FloatArray) -> FloatArray:
        normal = np.array(self._support.normal)
        return np.asarray((xyz @ normal + self._support.offset) / np.linalg.norm(normal))

    def _unseen_through(self, found: list[View], xyz: FloatArray) -> BoolArray:
        above = np.flatnonzero(self._height(xyz) > LOWEST * self.edge)
        points = xyz[above].astype(np.float32)
        through, reached, framed = (np.zeros(len(points), np.int32) for _ in range(3))
        for view in found:
            index, row, column, z = visible_pixels(view, points)
            depth = view.depth[row, column]
            framed[index] += 1
            reached[index] += (depth > z - SLACK * self.edge) | (depth == BLOCKED)
            through[index] += depth > z + SLACK * self.edge
        result = np.zeros(len(xyz), bool)
        result[above] = (framed >= FRAMED * len(found)) & (through <= np.maximum(FEW, THROUGH * reached))
        return result


def _nearest_piece(solid: BoolArray, target: FloatArray) -> BoolArray | None:
    """The connected piece of cells that weighs most: its size over its squared distance to a place, in cells."""
    from scipy.ndimage import binary_opening, label

    label_of, count = label(binary_opening(solid))
    if count == 0:
        return None
    cell = np.argwhere(label_of > 0)
    which = label_of[tuple(cell.T)]
    size = np.bincount(which, minlength=count + 1)[1:]
    nearest = np.full(count + 1, np.inf)
    np.minimum.at(nearest, which, ((cell - target) ** 2).sum(1))
    weight = np.where(size >= SMALLEST, size / (nearest[1:] + (0.05 * len(solid)) ** 2), 0.0)
    if not weight.any():
        return None
    return np.asarray(label_of == 1 + int(weight.argmax()))
