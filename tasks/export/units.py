"""From the capture's own units to those of what is published: metres where the scale is known. Nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.camera import PosedImage, PoseSet, matrix4
from models.mesh.mesh import Mesh
from models.points import SparsePoints
from models.scale import MeasuredScale


def scaled_mesh(mesh: Mesh, scale: MeasuredScale) -> Mesh:
    """The mesh in published units."""
    return mesh if scale.factor == 1.0 else replace(mesh, vertices=mesh.vertices * scale.factor)


def scaled_points(points: SparsePoints, scale: MeasuredScale) -> SparsePoints:
    """The sparse points in published units."""
    return points if scale.factor == 1.0 else replace(points, xyz=points.xyz * scale.factor)


def scaled_poses(poses: PoseSet, scale: MeasuredScale) -> PoseSet:
    """The cameras of what is shown, the region and the support in published units, and where these come from."""
    grow = np.diag([scale.factor] * 3 + [1.0])
    support = poses.support
    if support is not None:
        support = support.model_copy(update={"offset": support.offset * scale.factor})
    changes = {
        "images": tuple(_scaled_image(image, scale.factor) for image in poses.images),
        "alignment": (),
        "world_from_field": matrix4(grow @ np.array(poses.world_from_field)),
        "support": support,
        "units": scale.units,
        "scale_source": scale.source,
        "scale_uncertainty": scale.uncertainty,
    }
    return poses.model_copy(update=changes)


def _scaled_image(image: PosedImage, factor: float) -> PosedImage:
    c2w = np.array(image.c2w)
    c2w[:3, 3] *= factor
    return image.model_copy(update={"c2w": matrix4(c2w)})
