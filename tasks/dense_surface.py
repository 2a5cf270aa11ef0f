"""The dense stage's files as a measured surface, the same closed, and what each photo knows of free space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.artifacts import DENSE_FILE
from models.camera import Camera, Matrix4, PoseSet, similarity_scale
from models.mesh.mesh import Mesh
from models.stage import Stage
from tasks import stage_files
from tasks.context import Context
from tasks.stereo.free_space import without_free_space
from tasks.stereo.fusion import Points
from tasks.stereo.maps import DepthMap, depth_path, read_depth_map
from tasks.stereo.photo import fitted, read_mask
from tasks.stereo.sights import Sight, Surface, make_sight
from tasks.stereo.surface import closed, within_reach, without_small_parts
from tasks.stereo.tsdf import Grid, tsdf_grid, zero_level

PIXELS = 2.5
"""Of a photo's long edge for each voxel along the region's side where photos vote on free space: an object that fills
half of the photo has about a pixel a voxel."""
RESOLUTION = 160
"""Voxels along the region's side of the surface that guides fields and mends masks and maps."""
CLOSE_REACH, SMALL_PARTS = 0.15, 0.01
"""As the `mvs` method's options, for that surface."""
Report = Callable[[float, str], None]
"""Takes the share done and what is done."""
Fetch = Callable[[str], Path]


class Measured(NamedTuple):
    """The surface that depth maps agree on."""

    grid: Grid
    """[R, R, R] distances as of `tsdf_grid`; NaN where nothing was measured."""
    mesh: Mesh
    """Open where no map looks; all parts, faces towards the cameras."""


def read_dense_points(context: Context) -> Points:
    """The fused points of the dense stage."""
    with np.load(stage_files.fetch(context, Stage.DENSE, DENSE_FILE)) as data:
        return Points(data["xyz"], data["normal"], data["rgb"], data["views"], data["confidence"])


def measured_surface(
    points: Points, poses: PoseSet, resolution: int, context: Context, report: Report, fetch: Fetch | None = None
) -> Measured:
    """The mean of the training photos' depth maps.

    Args:
        resolution: voxels along the region's side.
        fetch: gives a depth map's file by its path in the dense stage; of the stage's commit unless given.
    """
    maps = _maps(poses, fetch or partial(stage_files.fetch, context, Stage.DENSE), report)
    grid = tsdf_grid(maps, points.xyz, poses.world_from_field, resolution, context.check)
    return Measured(grid, zero_level(grid, poses.world_from_field))


def guiding_surface(points: Points, poses: PoseSet, context: Context, fetch: Fetch | None = None) -> Measured | None:
    """The measured surface at RESOLUTION, without small parts; None where the maps hold none. `fetch` as above."""
    found = measured_surface(points, poses, RESOLUTION, context, lambda *_: None, fetch)
    mesh = without_small_parts(found.mesh, SMALL_PARTS)
    return Measured(found.grid, mesh) if len(mesh.faces) else None


def bridged(
    measured: Measured,
    poses: PoseSet,
    context: Context,
    reach: float = CLOSE_REACH,
    small_parts: float = SMALL_PARTS,
) -> Mesh:
    """The measured surface with its gaps closed, but for what photos see through; as it is where nothing would be left.

    Args:
        measured: its mesh without small parts.
        reach: as the `mvs` method's `close_reach`.
        small_parts: parts of less than this share of the area are dropped.
    """
    mesh, world_from_field, resolution = measured.mesh, poses.world_from_field, len(measured.grid)
    whole = closed(mesh, world_from_field, resolution)
    if len(whole.faces) == 0:
        return mesh
    seen = sights(mesh, poses, round(PIXELS * resolution), context)
    whole = without_free_space(measured.grid, whole, seen, poses.support, world_from_field, context.check)
    whole = within_reach(whole, mesh.vertices, reach * 2.0 * similarity_scale(world_from_field))
    return without_small_parts(whole if len(whole.faces) else mesh, small_parts)


def sights(mesh: Mesh, poses: PoseSet, edge_px: int, context: Context, masks: bool = True) -> Iterator[Sight]:
    """What each training photo knows of free space, at a long edge of `edge_px` at most.

    Args:
        mesh: the measured surface.
        masks: whether what lies outside the photos' masks is free, too.
    """
    surface = Surface(mesh, context.threads)
    for image in poses.of_split("train"):
        camera = fitted(image.camera, edge_px)
        mask = None
        if masks and image.mask is not None:
            mask = read_mask(stage_files.fetch_picture(context, image.mask), camera)
        tolerance_px = poses.mask_tolerance_px * camera.width / image.camera.width
        yield make_sight(surface, mask, tolerance_px, camera, image.c2w)


def _maps(poses: PoseSet, fetch: Fetch, report: Report) -> Iterator[tuple[DepthMap, Camera, Matrix4]]:
    images = poses.of_split("train")
    for k, image in enumerate(images):
        found = read_depth_map(fetch(depth_path(image)))
        height, width = found.depth.shape
        yield found, image.camera.resized(width, height), image.c2w
        report((k + 1) / len(images), f"depth map {k + 1} of {len(images)}")
