"""The visual hull (Laurentini 1994): the largest shape with the given silhouettes, the baseline of every score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.camera import Camera, PosedImage, invert_rigid
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, cast_mask

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

COARSEST = 64
"""Cells along the first grid; each next one is twice as fine, near the surface alone."""
_CHUNK = 1 << 18
_SQRT3 = float(np.sqrt(3.0))


@dataclass(frozen=True)
class Silhouette:
    """One view of the object as a signed distance in the picture."""

    camera: Camera
    w2c: FloatArray
    distance: Float32Array
    """[H, W] pixels to the silhouette's edge at each pixel's centre, positive inside."""


def silhouette(mask: npt.ArrayLike, camera: Camera, c2w: npt.ArrayLike) -> Silhouette:
    """A view from its mask [H, W] bool, which has the camera's size."""
    from scipy.ndimage import distance_transform_edt

    inside = np.asarray(mask, dtype=bool)
    if inside.shape != (camera.height, camera.width):
        raise ValueError(f"expected a mask of {camera.height} x {camera.width}, found {inside.shape}")
    far = float(sum(inside.shape))
    within = distance_transform_edt(inside) if not inside.all() else np.full(inside.shape, far)
    beyond = distance_transform_edt(~inside) if inside.any() else np.full(inside.shape, far)
    signed = np.where(inside, within - 0.5, 0.5 - beyond).astype(np.float32)
    return Silhouette(camera, invert_rigid(c2w), signed)


def true_silhouettes(
    caster: RayCaster, cameras: Sequence[PosedImage], max_edge_px: int, check: Callable[[], None] = lambda: None
) -> list[Silhouette]:
    """Exact silhouettes of a mesh, by one ray a pixel, pictures no longer than `max_edge_px`."""
    views = []
    for image in cameras:
        check()
        shrink = min(1.0, max_edge_px / max(image.camera.width, image.camera.height))
        camera = image.camera.resized(
            max(1, round(image.camera.width * shrink)), max(1, round(image.camera.height * shrink))
        )
        views.append(silhouette(cast_mask(caster, camera, image.c2w), camera, image.c2w))
    return views


def visual_hull(
    views: Sequence[Silhouette],
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    resolution: int = 256,
    check: Callable[[], None] = lambda: None,
) -> Mesh:
    """Carve a box by silhouettes and take its surface by interpolated marching cubes.

    The value of a grid point is the least over all views of its signed distance to the silhouette, in lengths at that
    depth; a view says nothing about points outside its frame. The sides of the box close the hull.

    Args:
        low, high: [3] corners of the box.
        resolution: cells along the box's longest side (rounded up to 64, 128, 256, ...).

    Returns:
        a closed mesh, faces counter-clockwise seen from outside; no faces when nothing is left.
    """
    from skimage.measure import marching_cubes

    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    cells = COARSEST
    step = float((high - low).max()) / cells
    nodes = np.ceil((high - low) / step).astype(np.int64) + 1
    values = _evaluate(views, low, step, np.argwhere(np.ones(nodes, dtype=bool)), check).reshape(nodes)
    while cells < resolution:
        cells, step = cells * 2, step / 2
        values = _refine(views, low, step, values, check)
    # one layer of outside around the box closes the surface
    padded = np.pad(values, 1, constant_values=-step)
    if not (padded > 0).any():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    vertices, faces, _, _ = marching_cubes(padded, level=0.0, gradient_direction="ascent")
    return Mesh((vertices - 1.0) * step + low, faces.astype(np.int64))


def _refine(
    views: Sequence[Silhouette], low: FloatArray, step: float, coarse: Float32Array, check: Callable[[], None]
) -> Float32Array:
    """The grid of half the spacing: points near the surface measured anew, the others keep their sign."""
    near = np.abs(coarse) < 2.0 * _SQRT3 * step  # the coarse cell's diagonal
    nodes = [2 * n - 1 for n in coarse.shape]
    low_index = [np.arange(n) // 2 for n in nodes]
    high_index = [(np.arange(n) + 1) // 2 for n in nodes]
    fine: Float32Array = coarse[np.ix_(*low_index)]
    again = near[np.ix_(*low_index)] | near[np.ix_(*high_index)]
    index = np.argwhere(again)
    fine[again] = _evaluate(views, low, step, index, check)
    return fine


def _evaluate(
    views: Sequence[Silhouette],
    low: FloatArray,
    step: float,
    index: npt.NDArray[np.int64],
    check: Callable[[], None],
) -> Float32Array:
    """[N] least signed distance over the views at the grid points `index` [N, 3]."""
    import torch

    values = np.empty(len(index), np.float32)
    origin = torch.tensor(low, dtype=torch.float32)
    tensors = [
        (view, torch.tensor(view.w2c, dtype=torch.float32), torch.from_numpy(view.distance)[None, None])
        for view in views
    ]
    for start in range(0, len(index), _CHUNK):
        check()
        points = origin + torch.from_numpy(index[start : start + _CHUNK]).float() * step
        value = torch.full((len(points),), torch.inf)
        alive = torch.arange(len(points))
        for view, w2c, distance in tensors:
            nearest = torch.minimum(value[alive], _distance(view.camera, w2c, distance, points[alive]))
            value[alive] = nearest
            # outside by more than a cell: no other view can bring the point back, nor will it be looked at again
            alive = alive[nearest > -_SQRT3 * step]
        values[start : start + _CHUNK] = torch.where(torch.isfinite(value), value, step).numpy()
    return values


def _distance(camera: Camera, w2c: Tensor, distance: Tensor, points: Tensor) -> Tensor:
    """[N] signed distance of points [N, 3] to the silhouette's cone; inf where the view says nothing.

    Args:
        w2c: [4, 4]
        distance: [1, 1, H, W] as in `Silhouette`; bilinear between pixel centres.
    """
    import torch

    local = points @ w2c[:3, :3].T + w2c[:3, 3]
    depth = local[:, 2]
    ahead = depth > 1e-9
    safe = torch.where(ahead, depth, 1.0)
    # grid_sample's picture spans [-1, 1] from edge to edge, which is this project's pixel convention scaled
    x = (camera.fx * local[:, 0] / safe + camera.cx) * (2.0 / camera.width) - 1.0
    y = (camera.fy * local[:, 1] / safe + camera.cy) * (2.0 / camera.height) - 1.0
    known = ahead & (x.abs() <= 1.0) & (y.abs() <= 1.0)
    grid = torch.stack([x, y], 1)[None, None]
    pixels = torch.nn.functional.grid_sample(distance, grid, padding_mode="border", align_corners=False)[0, 0, 0]
    return torch.where(known, pixels * safe / (0.5 * (camera.fx + camera.fy)), torch.inf)
