"""The dense stage's files to a mesh."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.artifacts import DENSE_FILE
from models.camera import Camera, Matrix4, PoseSet
from models.errors import DigitizeError, ReasonCode
from models.mesh.representation import MeshRepresentation
from models.stage import Stage
from tasks import stage_files
from tasks.context import Context
from tasks.stereo.fusion import Points
from tasks.stereo.maps import DepthMap, depth_path, read_depth_map
from tasks.stereo.surface import closed, finished, poisson_mesh, without_small_parts
from tasks.stereo.tsdf import tsdf_mesh
from tasks.train.outcome import Trained

INTEGRATION_SHARE = 0.7
"""Of the progress."""


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
        raw = poisson_mesh(points, poses.world_from_field, resolution, trim)
    else:
        raw = tsdf_mesh(_maps(poses, context), points.xyz, poses.world_from_field, resolution, context.check)
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
        whole = closed(mesh, poses.world_from_field, resolution, close_reach)
        mesh = finished(without_small_parts(whole, small_parts), points, context.check)
    facts = {
        "surface": surface,
        "closed": close,
        "resolution": resolution,
        "points": len(points.xyz),
        "faces": len(mesh.faces),
        "dropped_faces": len(raw.faces) - len(mesh.faces),
    }
    return Trained(MeshRepresentation(mesh, context.threads), facts)


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
