"""The dense stage's files to a mesh."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.artifacts import DENSE_FILE
from models.camera import Camera, Matrix4, PoseSet, similarity_scale
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.representation import MeshRepresentation
from models.stage import Stage
from tasks import stage_files
from tasks.context import Context
from tasks.stereo.free_space import without_free_space
from tasks.stereo.fusion import Points
from tasks.stereo.maps import DepthMap, depth_path, read_depth_map
from tasks.stereo.photo import fitted, read_mask
from tasks.stereo.sights import Sight, Surface, make_sight
from tasks.stereo.surface import closed, finished, poisson_mesh, within_reach, without_small_parts
from tasks.stereo.tsdf import Grid, tsdf_grid, zero_level
from tasks.train.outcome import Trained

INTEGRATION_SHARE = 0.7
"""Of the progress."""
PIXELS = 2.5
"""Of a photo's long edge for each voxel along the region's side where photos vote on free space: an object that fills
half of the photo has about a pixel a voxel."""


def mesh_of_depth(
    poses: PoseSet,
    context: Context,
    *,
    surface: str,
    resolution: int,
    trim: float,
    small_parts: float,
    close_reach: float,
) -> Trained:
    """A mesh of the region with vertex colours (options: tasks/train/methods/mvs.py).

    Raises DigitizeError(empty_surface) where the depth maps hold no surface.
    """
    points = read_dense_points(context)
    if surface == "poisson":
        context.progress(0.1, f"Poisson surface of {len(points.xyz)} points", {})
        grid = np.full((resolution,) * 3, np.nan, np.float32)
        raw = poisson_mesh(points, poses.world_from_field, resolution, trim)
    else:
        grid = tsdf_grid(_maps(poses, context), points.xyz, poses.world_from_field, resolution, context.check)
        raw = zero_level(grid, poses.world_from_field)
    context.check()
    mesh = without_small_parts(raw, small_parts)
    if len(mesh.faces) == 0:
        message = f"expected a surface in the region from {len(points.xyz)} points, found none"
        raise DigitizeError(ReasonCode.EMPTY_SURFACE, message, asset=context.request.asset)
    context.progress(0.8, f"colours of {len(mesh.vertices)} vertices", {})
    mesh = finished(mesh, points, context.check)
    # a scene has no outside to close: what no photo sees of it stays open
    close = close_reach > 0 and any(image.mask for image in poses.images)
    if close:
        context.progress(0.9, "closing gaps", {})
        whole = without_small_parts(_bridged(mesh, grid, close_reach, poses, context), small_parts)
        mesh = finished(whole, points, context.check)
    facts = {
        "surface": surface,
        "closed": close,
        "resolution": resolution,
        "points": len(points.xyz),
        "faces": len(mesh.faces),
        "dropped_faces": len(raw.faces) - len(mesh.faces),
    }
    return Trained(MeshRepresentation(mesh, context.threads), facts)


def _bridged(mesh: Mesh, grid: Grid, reach: float, poses: PoseSet, context: Context) -> Mesh:
    """The mesh with its gaps closed, but for what photos see through; as it is where nothing would be left of it."""
    world_from_field, resolution = poses.world_from_field, len(grid)
    whole = closed(mesh, world_from_field, resolution)
    if len(whole.faces) == 0:
        return mesh
    sights = _sights(mesh, poses, round(PIXELS * resolution), context)
    whole = without_free_space(grid, whole, sights, poses.support, world_from_field, context.check)
    whole = within_reach(whole, mesh.vertices, reach * 2.0 * similarity_scale(world_from_field))
    return whole if len(whole.faces) else mesh


def _sights(mesh: Mesh, poses: PoseSet, edge_px: int, context: Context) -> Iterator[Sight]:
    """What each training photo knows of free space, at a long edge of `edge_px` at most."""
    measured = Surface(mesh, context.threads)
    for image in poses.of_split("train"):
        camera = fitted(image.camera, edge_px)
        mask = None if image.mask is None else read_mask(stage_files.fetch_picture(context, image.mask), camera)
        tolerance_px = poses.mask_tolerance_px * camera.width / image.camera.width
        yield make_sight(measured, mask, tolerance_px, camera, image.c2w)


def read_dense_points(context: Context) -> Points:
    """The fused points of the dense stage."""
    with np.load(stage_files.fetch(context, Stage.DENSE, DENSE_FILE)) as data:
        return Points(data["xyz"], data["normal"], data["rgb"], data["views"], data["confidence"])


def _maps(poses: PoseSet, context: Context) -> Iterator[tuple[DepthMap, Camera, Matrix4]]:
    images = poses.of_split("train")
    for k, image in enumerate(images):
        found = read_depth_map(stage_files.fetch(context, Stage.DENSE, depth_path(image)))
        height, width = found.depth.shape
        yield found, image.camera.resized(width, height), image.c2w
        context.progress(INTEGRATION_SHARE * (k + 1) / len(images), f"depth map {k + 1} of {len(images)}", {})
