"""Fewer faces: quadric edge collapses (Garland and Heckbert 1997, by meshoptimizer), then repair of what they break."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.mesh.mesh import IntArray, Mesh
from models.mesh.topology import components, edge_table, face_areas, keep_faces
from tasks.surface.intersect import untangle
from tasks.surface.manifold import make_manifold

LONGEST = 4.0
"""No edge is longer than this many edges of an evenly meshed surface: what is known at vertices stays local."""
ROUNDS = 3
REPAIR = 0.002
"""Share of the budget that is kept for what the repair of intersections adds."""
CRUMB = 1e-4
"""Share of the largest component's area below which a component is a speck."""


@dataclass(frozen=True)
class Decimated:
    """A mesh of fewer faces."""

    mesh: Mesh
    self_intersections: int
    """Faces that pass through others and could not be repaired."""


def decimate(mesh: Mesh, faces: int, threads: int = 0) -> Decimated:
    """The mesh with at most `faces` faces (if repair adds no more than REPAIR), manifold, without self-intersections.

    The vertices that stay do not move (but where an intersection is repaired), so they lie on the surface as before.
    A mesh that is small enough is only repaired. Flat parts keep a coarse grid of faces, within the budget.
    """
    budget, closed = int((1.0 - REPAIR) * faces), not (edge_table(mesh.faces)[1] == 1).any()
    target = budget
    for _ in range(ROUNDS):
        small = _without_crumbs(make_manifold(collapse(mesh, target), closed).mesh)
        even = np.sqrt(4.0 / np.sqrt(3.0) * face_areas(small).sum() / max(faces, 1))
        fine = split_long_edges(small, LONGEST * float(even))
        if len(fine.faces) <= budget or len(mesh.faces) <= budget:
            break
        # what is split has to be collapsed elsewhere
        target -= len(fine.faces) - budget
    repaired, left = untangle(fine, threads)
    return Decimated(_without_crumbs(make_manifold(repaired, closed).mesh) if left == 0 else repaired, left)


def _without_crumbs(mesh: Mesh) -> Mesh:
    """The mesh without the specks that collapses pinch off."""
    label = components(mesh.faces)
    areas = np.bincount(label, face_areas(mesh))
    return mesh if len(areas) <= 1 else keep_faces(mesh, (areas >= CRUMB * areas.max())[label])


def collapse(mesh: Mesh, faces: int) -> Mesh:
    """The mesh after edge collapses down to `faces` faces; vertices are a subset, and keep all they hold.

    Where copies of a vertex differ in their texture place, both sides of that seam collapse alike.
    """
    import meshoptimizer

    if len(mesh.faces) <= faces:
        return mesh
    centre = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2.0
    unit = np.ascontiguousarray((mesh.vertices - centre) / max(mesh.diagonal, 1e-300), np.float32)
    corners = np.ascontiguousarray(mesh.faces.ravel(), np.uint32)
    kept = np.zeros(len(corners), np.uint32)
    count = meshoptimizer.simplify(
        kept,
        corners,
        unit,
        index_count=len(corners),
        vertex_count=len(unit),
        target_index_count=3 * max(faces, 4),
        target_error=1.0,
    )
    faces_left = kept[:count].reshape(-1, 3).astype(np.int64)
    return keep_faces(replace(mesh, faces=faces_left), np.arange(len(faces_left)))


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
