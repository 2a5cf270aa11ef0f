"""The dense stage's files to a mesh."""

from __future__ import annotations

import numpy as np

from models.camera import PoseSet
from models.errors import DigitizeError, ReasonCode
from models.mesh.representation import MeshRepresentation
from tasks.context import Context
from tasks.dense_surface import Measured, bridged, measured_surface, read_dense_points
from tasks.stereo.fusion import Points
from tasks.stereo.surface import finished, poisson_mesh, without_small_parts
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
    raw = _surface(points, poses, surface, resolution, trim, context)
    context.check()
    mesh = without_small_parts(raw.mesh, small_parts)
    if len(mesh.faces) == 0:
        message = f"expected a surface in the region from {len(points.xyz)} points, found none"
        raise DigitizeError(ReasonCode.EMPTY_SURFACE, message, asset=context.request.asset)
    context.progress(0.8, f"colours of {len(mesh.vertices)} vertices", {})
    mesh = finished(mesh, points, context.check)
    # a scene has no outside to close: what no photo sees of it stays open
    close = close_reach > 0 and any(image.mask for image in poses.images)
    if close:
        context.progress(0.9, "closing gaps", {})
        whole = bridged(Measured(raw.grid, mesh), poses, context, close_reach, small_parts)
        mesh = finished(whole, points, context.check)
    facts = {
        "surface": surface,
        "closed": close,
        "resolution": resolution,
        "points": len(points.xyz),
        "faces": len(mesh.faces),
        "dropped_faces": len(raw.mesh.faces) - len(mesh.faces),
    }
    return Trained(MeshRepresentation(mesh, context.threads), facts)


def _surface(points: Points, poses: PoseSet, surface: str, resolution: int, trim: float, context: Context) -> Measured:
    def report(share: float, message: str) -> None:
        context.progress(INTEGRATION_SHARE * share, message, {})

    if surface == "tsdf":
        return measured_surface(points, poses, resolution, context, report)
    context.progress(0.1, f"Poisson surface of {len(points.xyz)} points", {})
    grid = np.full((resolution,) * 3, np.nan, np.float32)
    return Measured(grid, poisson_mesh(points, poses.world_from_field, resolution, trim))
