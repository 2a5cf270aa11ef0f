"""A training method in one file: the convex hull of the sparse points. A mesh that never was a field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from models.camera import PoseSet
from models.record import Record
from models.resources import Estimate, Resources
from models.stage import Inputs

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.train.outcome import Trained

VERSION = "1"
OUTPUTS = "mesh"
PRESETS: dict[str, dict[str, object]] = {}
CONTRACT = {"subdivisions": 1}


class Options(Record):
    """What can be chosen."""

    trim: float = Field(default=0.002, ge=0, lt=0.5)
    """Share of the points left out at either end of each axis. Raise it when stray points blow up the hull."""
    margin: float = Field(default=0.03, ge=0)
    """Height above the support below which points are left out, as a share of the region's side."""
    subdivisions: int = Field(default=3, ge=0, le=6)
    """How often each face is split in four. Raise it for finer colours."""


def resources(options: Options) -> Resources:
    """Next to nothing."""
    return Resources(cpus=1, memory_gb=1.0, scratch_gb=0.1, timeout_s=300)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """A second."""
    return Estimate(seconds=1.0, memory_gb=0.5)


def inputs(options: Options, capture_kind: str) -> Inputs:
    """The points alone."""
    return Inputs(required=("pose",))


def fit(poses: PoseSet, options: Options, context: Context) -> Trained:
    """The hull of the points in the region above its support, coloured by the points nearest to its vertices."""
    import numpy as np
    import trimesh
    from scipy.spatial import ConvexHull, cKDTree

    from models.camera import similarity_scale, transform_points
    from models.mesh.mesh import Mesh
    from models.mesh.representation import MeshRepresentation
    from tasks.stage_files import read_points
    from tasks.train.outcome import Trained

    points = read_points(context)
    assert points is not None
    xyz, rgb = points["xyz"], points["rgb"]
    local = transform_points(np.linalg.inv(np.array(poses.world_from_field)), xyz)
    keep = (np.abs(local) < 0.99).all(1)
    if poses.support is not None:
        side = 2.0 * similarity_scale(poses.world_from_field)
        keep &= xyz @ np.array(poses.support.normal) + poses.support.offset > options.margin * side
    xyz, rgb = xyz[keep], rgb[keep]
    low, high = np.quantile(xyz, options.trim, axis=0), np.quantile(xyz, 1 - options.trim, axis=0)
    inside = ((xyz >= low) & (xyz <= high)).all(1)
    xyz, rgb = xyz[inside], rgb[inside]
    hull = ConvexHull(xyz)
    body = trimesh.Trimesh(xyz, hull.simplices, process=True)
    for _ in range(options.subdivisions):
        body = body.subdivide()
    trimesh.repair.fix_normals(body)
    vertices = np.array(body.vertices, dtype=np.float64)
    colors = rgb[cKDTree(xyz).query(vertices)[1]].astype(np.uint8)
    mesh = Mesh(vertices, np.array(body.faces, dtype=np.int64), colors=colors)
    return Trained(MeshRepresentation(mesh), {"points": len(xyz), "faces": len(mesh.faces)})
