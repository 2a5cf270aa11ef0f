"""The object by depth: what stands on the support where the cameras look, and what no photo sees through.

Depth maps of a small size are estimated for the training photos. Every cell of a grid over the region is then put to
the vote: a photo whose depth lies behind the cell sees through it. What is left is the shape even where plain surfaces
have no depth of their own, as long as what lies behind them has one (after Kutulakos and Seitz 2000, with depth for
colour).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, FloatArray, Matrix4, Plane, PosedImage, invert_rigid, similarity_scale
from models.camera import transform_points as transform
from models.mesh.mesh import Mesh
from tasks.context import Context
from tasks.mask.gate import common_point
from tasks.mask.photos import MaskPhotos
from tasks.stereo import estimate, views
from tasks.stereo.maps import DepthMap
from tasks.stereo.photo import Photo, crosses_cube, fitted, make_photo

BoolArray = npt.NDArray[np.bool_]

MOST_PHOTOS = 60
"""Photos whose depth is estimated, evenly spread: more see nothing new at this size."""
SOURCES, LEVELS = 4, 2
WORST_COST = 0.6
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
SMALLEST = 50
"""Cells of an object."""
_CHUNK = 1 << 19


@dataclass(frozen=True)
class View:
    """A depth map and its camera."""

    depth: npt.NDArray[np.float32]
    """[H, W] along z, 0 where there is none."""
    camera: Camera
    w2c: FloatArray


def depth_views(photos: MaskPhotos, edge_px: int, context: Context) -> list[View]:
    """Depth of the training photos, refined once by each other's."""
    poses = photos.poses
    images = [image for image in poses.images if image.split == "train"]
    images = [images[k] for k in np.unique(np.linspace(0, len(images) - 1, min(MOST_PHOTOS, len(images))).astype(int))]
    row = {image.name: k for k, image in enumerate(poses.images)}
    seen = np.zeros((len(images), len(photos.points.xyz)), bool)
    for k, image in enumerate(images):
        seen[k, photos.seen_by[row[image.name]]] = True
    plan = views.make_plan(images, poses.world_from_field, photos.points.xyz, seen, SOURCES)
    small = [_small_photo(photos, image, row[image.name], edge_px) for image in images]
    settings = estimate.StereoSettings(iterations=3, worst_cost=WORST_COST)
    seed, threads, count = context.request.seed, context.threads, 2 * len(images)
    first: list[DepthMap] = []
    for k in range(len(images)):
        context.check()
        others = [small[j] for j in plan.sources[k]]
        if others:
            first.append(estimate.estimate(small[k], others, settings, plan.ranges[k], seed + k, threads))
        else:
            first.append(DepthMap.empty(small[k].levels[0].camera))
        context.progress(0.7 * (k + 1) / count, "depth of the capture", {})
    found = []
    for k in range(len(images)):
        context.check()
        others, maps = [small[j] for j in plan.sources[k]], [first[j] for j in plan.sources[k]]
        best = first[k]
        if others:
            best = estimate.refine(small[k], others, settings, plan.ranges[k], best, maps, seed + k, threads)
        found.append(View(best.depth, small[k].levels[0].camera, invert_rigid(images[k].c2w)))
        context.progress(0.7 * (len(images) + k + 1) / count, "depth of the capture", {})
    return found


def carve_by_depth(photos: MaskPhotos, found: list[View], support: Plane, context: Context) -> Mesh | None:
    """The piece of what the depth maps leave above the support that is nearest to what the cameras look at; None where
    they leave nothing."""
    grid = _Grid(photos, support, COARSE)
    solid = grid.solid(found, np.arange(grid.cells**3), context)
    for _ in range(int(np.log2(FINER))):
        grid, inherited, again = grid.refined(solid)
        solid = inherited.copy()
        solid.reshape(-1)[again] = grid.solid(found, again, context).reshape(-1)[again]
    piece = _nearest_piece(solid, grid.cell_of(common_point(photos)))
    return None if piece is None else grid.surface(grid.down_to_support(piece))


def touches_region(mesh: Mesh, world_from_field: Matrix4) -> bool:
    """Whether a mesh reaches a face of the region other than those along the support's normal below it: it is cut."""
    local = transform(np.linalg.inv(np.array(world_from_field)), mesh.vertices)
    rim = 1.0 - 2.0 / COARSE
    return bool((np.abs(local[:, :2]) > rim).any() or (local[:, 2] > rim).any())


class _Grid:
    """A cube of cells over the region, and the part of it above the support."""

    def __init__(self, photos: MaskPhotos, support: Plane, cells: int) -> None:
        self.cells, self._photos, self._support = cells, photos, support
        self._world_from_field = photos.poses.world_from_field
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
        return _Grid(self._photos, self._support, 2 * self.cells), twice[0], np.flatnonzero(twice[1])

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
            camera = view.camera
            local = points @ view.w2c[:3, :3].T.astype(np.float32) + view.w2c[:3, 3].astype(np.float32)
            z = np.maximum(local[:, 2], 1e-9)
            u, v = local[:, 0] / z * camera.fx + camera.cx, local[:, 1] / z * camera.fy + camera.cy
            inside = (local[:, 2] > 0) & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
            depth = np.zeros(len(points), np.float32)
            depth[inside] = view.depth[v[inside].astype(np.int32), u[inside].astype(np.int32)]
            framed += inside
            reached += depth > local[:, 2] - SLACK * self.edge
            through += depth > local[:, 2] + SLACK * self.edge
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


def _small_photo(photos: MaskPhotos, image: PosedImage, row: int, edge_px: int) -> Photo:
    camera = fitted(image.camera, edge_px)
    picture = Image.fromarray(photos.picture(row)).resize((camera.width, camera.height), Image.Resampling.LANCZOS)
    mask = crosses_cube(camera, image.c2w, photos.poses.world_from_field)
    return make_photo(picture, camera, image.c2w, mask, LEVELS)
