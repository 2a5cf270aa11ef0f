"""Fewer faces: quadric edge collapses (Garland and Heckbert 1997, by Open3D), then repair of what they break."""

from __future__ import annotations

import numpy as np

from tasks.mesh.mesh import IntArray, Mesh
from tasks.surface.clean import fill_holes, tidy
from tasks.surface.topology import edge_table, face_areas

LONGEST = 4.0
"""No edge is longer than this many edges of an evenly meshed surface: what is known at vertices stays local."""


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with about `faces` faces, manifold along its edges; boundaries are kept in place.

    A mesh that is small enough is only repaired. Flat parts keep a coarse grid of faces, a few per cent of all.
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
    sound = tidy(closed)
    even = np.sqrt(4.0 / np.sqrt(3.0) * face_areas(sound).sum() / max(faces, 1))
    return split_long_edges(sound, LONGEST * float(even))


def split_long_edges(mesh: Mesh, longest: float) -> Mesh:
    """The same surface without edges longer than `longest`: halved, on both sides alike, until none is left."""
    if longest <= 0:
        return mesh
    vertices, faces = mesh.vertices, mesh.faces
    while True:
        edges, _, which = edge_table(faces)
        ends = vertices[edges]
        long = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) > longest
        if not long.any():
            return Mesh(vertices, faces)
        middle = np.full(len(edges), -1, np.int64)
        middle[long] = len(vertices) + np.arange(int(long.sum()))
        vertices = np.concatenate([vertices, ends[long].mean(1)])
        faces = _split(faces, middle[which].reshape(-1, 3))


def _split(faces: IntArray, middle: IntArray) -> IntArray:
    """Faces [F, 3] cut at the vertices `middle` [F, 3] of their edges (0, 1), (1, 2), (2, 0); -1 for whole edges."""
    cuts = (middle >= 0).sum(1)
    # turn each face: with one cut it lies on the first edge, with two the whole edge is the last
    first = np.where(cuts == 2, (np.argmax(middle < 0, axis=1) + 1) % 3, np.argmax(middle >= 0, axis=1))
    turn = (first[:, None] + np.arange(3)) % 3
    (a, b, c), (ab, bc, ca) = np.take_along_axis(faces, turn, 1).T, np.take_along_axis(middle, turn, 1).T
    patterns = {
        0: [(a, b, c)],
        1: [(a, ab, c), (ab, b, c)],
        2: [(ab, b, bc), (a, ab, bc), (a, bc, c)],
        3: [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)],
    }
    parts = [np.stack(corners, 1)[cuts == count] for count, pattern in patterns.items() for corners in pattern]
    return np.concatenate(parts)
