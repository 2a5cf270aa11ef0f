"""From oriented points to a mesh, and what every mesh of dense stereo gets: parts, orientation, colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Matrix4, similarity_scale
from models.mesh.mesh import Mesh
from models.mesh.topology import components, face_areas, keep_faces, vertex_normals
from tasks.stereo.fusion import Points

COLOUR_NEIGHBOURS = 4
CLOSING_ROOM = 1.4
"""What bridges a gap may bulge that much."""
_BATCH = 1 << 19
Check = Callable[[], None]


def poisson_mesh(points: Points, world_from_field: Matrix4, resolution: int, trim: float, room: float = 1.1) -> Mesh:
    """Screened Poisson (Kazhdan and Hoppe 2013) of the fused points, in one thread so that it is the same each time.

    Args:
        resolution: cells along the region's side, rounded up to a power of two; points are thinned to one a cell.
        trim: parts further from all points than this share of the region's side are dropped; they are guesses.
        room: width of the cube that is solved in, over that of the points: the surface ends at its walls.
    """
    import open3d

    side = 2.0 * similarity_scale(world_from_field)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.xyz.astype(np.float64)))
    cloud.normals = open3d.utility.Vector3dVector(points.normal.astype(np.float64))
    cloud = cloud.voxel_down_sample(side / resolution)
    extent = float(np.ptp(points.xyz, axis=0).max()) * room
    depth = int(np.clip(np.ceil(np.log2(max(2.0, resolution * extent / side))), 5, 12))
    found, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=depth, scale=room, n_threads=1)
    mesh = _mesh(found)
    if len(mesh.faces) == 0:
        return mesh
    return within_reach(mesh, np.asarray(cloud.points), trim * side)


def within_reach(mesh: Mesh, xyz: npt.NDArray[np.float64], reach: float) -> Mesh:
    """The faces with all corners within a distance `reach` of one of the points [P, 3], in the same unit."""
    from scipy.spatial import cKDTree

    if np.isinf(reach) or len(mesh.faces) == 0:
        return mesh
    distance, _ = cKDTree(xyz).query(mesh.vertices, workers=1)
    return keep_faces(mesh, np.asarray((distance <= reach)[mesh.faces].all(1)))


def closed(mesh: Mesh, world_from_field: Matrix4, resolution: int, reach: float = np.inf) -> Mesh:
    """The mesh with its gaps bridged smoothly, by screened Poisson through its own vertices.

    A flat patch over each rim cannot close a gap that runs all round an object (under an overhanging rim, say): it
    would cross the object. Poisson goes on as the surface around the gap does.

    Args:
        mesh: faces towards the outside.
        reach: share of the region's side; what lies further from the mesh is a guess, and left out.
    """
    normals = vertex_normals(mesh)
    none = np.zeros((len(mesh.vertices), 3), np.uint8)
    ones = np.ones(len(mesh.vertices))
    vertices = mesh.vertices.astype(np.float32)
    points = Points(vertices, normals.astype(np.float32), none, ones.astype(np.uint8), ones.astype(np.float32))
    return poisson_mesh(points, world_from_field, resolution, reach, CLOSING_ROOM)


def without_small_parts(mesh: Mesh, share: float) -> Mesh:
    """The mesh without components of less than `share` of its area."""
    if len(mesh.faces) == 0:
        return mesh
    label = components(mesh.faces)
    areas = np.bincount(label, face_areas(mesh))
    return keep_faces(mesh, np.asarray((areas >= share * areas.sum())[label]))


def finished(mesh: Mesh, points: Points, check: Check = lambda: None) -> Mesh:
    """The mesh with its faces towards the cameras that saw the points, and the points' colours at its vertices."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points.xyz)
    normals = vertex_normals(mesh)
    colors = np.zeros((len(mesh.vertices), 3), np.uint8)
    agreement = 0.0
    count = min(COLOUR_NEIGHBOURS, len(points.xyz))
    for start in range(0, len(mesh.vertices), _BATCH):
        check()
        part = slice(start, start + _BATCH)
        near = tree.query(mesh.vertices[part], count, workers=1)[1].reshape(-1, count)
        agreement += float((points.normal[near[:, 0]] * normals[part]).sum())
        colors[part] = np.round(points.rgb[near].astype(np.float64).mean(1)).astype(np.uint8)
    faces = mesh.faces if agreement >= 0 else np.ascontiguousarray(mesh.faces[:, ::-1])
    return Mesh(mesh.vertices, faces, colors=colors)


def _mesh(found: Any) -> Mesh:
    """An Open3D mesh as plain arrays."""
    vertices = np.array(found.vertices, dtype=np.float64).reshape(-1, 3)
    return Mesh(vertices, np.array(found.triangles, dtype=np.int64).reshape(-1, 3))
