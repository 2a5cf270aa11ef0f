"""Fewer faces: quadric edge collapses (Garland and Heckbert 1997, by Open3D), then repair of what they break."""

from __future__ import annotations

import numpy as np

from tasks.mesh.mesh import Mesh
from tasks.surface.clean import fill_holes, tidy


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with at most about `faces` faces, manifold along its edges; boundaries are kept in place.

    A mesh that is small enough is only repaired.
    """
    import open3d

    work = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces.astype(np.int32))
    )
    if len(mesh.faces) > faces:
        work = work.simplify_quadric_decimation(target_number_of_triangles=faces, boundary_weight=3.0)
    work.remove_degenerate_triangles()
    work.remove_duplicated_triangles()
    work.remove_non_manifold_edges()
    small = Mesh(np.asarray(work.vertices).astype(np.float64), np.asarray(work.triangles).astype(np.int64))
    # the collapses and the repair leave holes of a few edges, never larger ones
    closed, _ = fill_holes(tidy(small), maximum_edges=8)
    return tidy(closed)
