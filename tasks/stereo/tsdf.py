"""A mesh from depth maps: the mean of their truncated distances, and its zero level (Curless and Levoy 1996).

Distances are to the plane of each pixel (depth and normal), not along the ray: they stay true on slanted surfaces and
between pixels. Voxels exist near the fused points alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from models.camera import Camera, FloatArray, Matrix4, invert_rigid, similarity_scale, transform_points
from models.mesh.mesh import Mesh
from models.mesh.topology import keep_faces
from tasks.stereo.maps import DepthMap

TRUNCATION = 3.0
"""Voxels before and behind a surface that a depth map says something about."""
BLOCK = 4
"""Voxels along the side of the blocks in which voxels are made: those with points, and all around them."""
MOST_BEHIND = 1.5
"""Truncations behind the pixel, along z, beyond which its map says nothing."""
LEAST_COSINE = 0.2
"""Of the angle between ray and normal: what is seen flatter says nothing."""
BATCH = 1 << 20
IntArray = npt.NDArray[np.int64]
Grid = npt.NDArray[np.float32]


def tsdf_grid(
    maps: Iterable[tuple[DepthMap, Camera, Matrix4]],
    xyz: npt.NDArray[np.float32],
    world_from_field: Matrix4,
    resolution: int,
    check: Callable[[], None] = lambda: None,
) -> Grid:
    """[R, R, R] mean distances of some depth maps at voxel centres, in truncations, positive outside; NaN where no map
    looks.

    Args:
        maps: depth, the camera of its size, and its c2w.
        xyz: [P, 3] fused points in the world: voxels are made around them.
        world_from_field: the region.
        resolution: voxels along the region's side.
    """
    voxels = voxels_near(transform_points(np.linalg.inv(np.array(world_from_field)), xyz), resolution)
    index = np.stack(np.unravel_index(voxels, (resolution,) * 3), 1)
    centres = transform_points(world_from_field, (index + 0.5) * (2.0 / resolution) - 1.0)
    truncation = TRUNCATION * 2.0 * similarity_scale(world_from_field) / resolution
    total, weight = np.zeros(len(voxels)), np.zeros(len(voxels))
    for found, camera, c2w in maps:
        for start in range(0, len(voxels), BATCH):
            check()
            part = slice(start, start + BATCH)
            distance, trust = _distances(found, camera, c2w, centres[part], truncation)
            total[part] += trust * distance
            weight[part] += trust
    check()
    seen = weight > 0
    grid = np.full((resolution,) * 3, np.nan, np.float32)
    grid.reshape(-1)[voxels[seen]] = total[seen] / weight[seen]
    return grid


def voxels_near(local: FloatArray, resolution: int) -> IntArray:
    """Sorted indices (row-major in a cube of `resolution`) of the voxels in and around blocks with points.

    Args:
        local: [P, 3] in the field's cube [-1, 1]^3.
    """
    count = -(-resolution // BLOCK)
    block = np.clip(np.floor((local + 1.0) * (0.5 * resolution / BLOCK)).astype(np.int64), 0, count - 1)
    used = np.zeros((count + 2,) * 3, bool)
    used[tuple((block + 1).T)] = True
    for axis in range(3):
        used = used | np.roll(used, 1, axis) | np.roll(used, -1, axis)
    corner = (np.argwhere(used[1:-1, 1:-1, 1:-1]) * BLOCK)[:, None, :]
    within = np.stack(np.meshgrid(*[np.arange(BLOCK)] * 3, indexing="ij"), 3).reshape(1, -1, 3)
    index = (corner + within).reshape(-1, 3)
    index = index[(index < resolution).all(1)]
    return np.sort(np.ravel_multi_index(tuple(index.T), (resolution,) * 3)).astype(np.int64)


def _distances(
    found: DepthMap, camera: Camera, c2w: Matrix4, xyz: FloatArray, truncation: float
) -> tuple[FloatArray, FloatArray]:
    """Distance of each point [N, 3] to the surface of one map, in truncations, and how far to trust it (0: not)."""
    local = transform_points(invert_rigid(c2w), xyz)
    z = np.where(local[:, 2] > 0, local[:, 2], 1.0)
    u = local[:, 0] / z * camera.fx + camera.cx
    v = local[:, 1] / z * camera.fy + camera.cy
    inside = (local[:, 2] > 0) & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    column, row = np.where(inside, u, 0).astype(np.int64), np.where(inside, v, 0).astype(np.int64)
    depth, normal = found.depth[row, column].astype(np.float64), found.normal[row, column].astype(np.float64)
    ray = np.stack([(column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy, np.ones(len(z))], 1)
    cosine = -(normal * ray).sum(1) / np.linalg.norm(ray, axis=1)
    distance = (normal * (local - ray * depth[:, None])).sum(1) / truncation
    # near outlines the plane runs along the ray: what lies far behind the pixel would seem close to it
    behind = (z - depth) / truncation
    told = inside & (depth > 0) & (cosine > LEAST_COSINE) & (distance > -1.0) & (behind < MOST_BEHIND)
    trust = np.where(told, found.confidence[row, column] * cosine, 0.0)
    return np.minimum(distance, 1.0), trust


def zero_level(grid: Grid, world_from_field: Matrix4) -> Mesh:
    """The zero level of distances [R, R, R] at voxel centres, its faces towards the positive side.

    NaN where nothing is known: no face touches those.
    """
    from skimage.measure import marching_cubes

    finite = np.isfinite(grid)
    if not ((grid[finite] < 0).any() and (grid[finite] > 0).any()):
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    with np.errstate(invalid="ignore"):
        vertices, faces, _, _ = marching_cubes(grid, 0.0, gradient_direction="descent", allow_degenerate=False)
    places = (vertices.astype(np.float64) + 0.5) * (2.0 / len(grid)) - 1.0
    mesh = Mesh(transform_points(world_from_field, places), faces.astype(np.int64))
    known = np.isfinite(vertices).all(1)
    return keep_faces(mesh, np.asarray(known[mesh.faces].all(1)))
