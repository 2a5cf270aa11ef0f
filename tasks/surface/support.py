"""Cutting the object off its support: what is below the plane of the table or mat goes, and the cut is closed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.camera import Plane
from models.mesh.mesh import FloatArray, IntArray, Mesh
from models.mesh.topology import boundary_loops, keep_faces
from tasks.surface.polygons import area, contains, triangulate, with_holes


def heights(plane: Plane, points: FloatArray) -> FloatArray:
    """[N] distance of points [N, 3] above the plane, on the object's side positive."""
    normal = np.array(plane.normal)
    length = float(np.linalg.norm(normal))
    result: FloatArray = (points @ normal + plane.offset) / length
    return result


@dataclass(frozen=True)
class Cut:
    """What is left above a plane."""

    mesh: Mesh
    rim: IntArray
    """Indices of the vertices on the cut."""


def cut(mesh: Mesh, plane: Plane, margin: float) -> Cut:
    """The part of a mesh that lies more than `margin` above the plane, open where it was cut."""
    h = heights(plane, mesh.vertices) - margin
    # no vertex lies on the cut itself: each face is then above, below, or cut in one of two ways
    tiny = 1e-9 * max(mesh.diagonal, 1e-300) if len(mesh.vertices) else 0.0
    h = np.where(np.abs(h) < tiny, tiny, h)
    above = h > 0
    sides = above[mesh.faces].sum(1)
    whole = mesh.faces[sides == 3]
    parts = [whole]
    vertices = mesh.vertices
    crossing = mesh.faces[(sides == 1) | (sides == 2)]
    if len(crossing):
        # turn each crossing face so that its odd vertex comes first
        inside = above[crossing]
        lone = inside.sum(1) == 1
        odd = np.argmax(inside == lone[:, None], axis=1)
        turned = np.take_along_axis(crossing, (odd[:, None] + np.arange(3)) % 3, axis=1)
        pairs = np.concatenate([turned[:, [0, 1]], turned[:, [0, 2]]])
        low_high = np.sort(pairs, axis=1)
        edges, which = np.unique(low_high, axis=0, return_inverse=True)
        a, b = edges.T
        t = (h[a] / (h[a] - h[b]))[:, None]
        vertices = np.concatenate([vertices, vertices[a] + t * (vertices[b] - vertices[a])])
        fresh = len(mesh.vertices) + which.ravel()
        p, q = fresh[: len(turned)], fresh[len(turned) :]
        one, two = turned[lone], turned[~lone]
        parts.append(np.stack([one[:, 0], p[lone], q[lone]], 1))
        parts.append(np.stack([p[~lone], two[:, 1], two[:, 2]], 1))
        parts.append(np.stack([p[~lone], two[:, 2], q[~lone]], 1))
    faces = np.concatenate(parts)
    result = keep_faces(Mesh(vertices, faces), np.arange(len(faces)))
    used = np.unique(faces)
    return Cut(result, np.nonzero(used >= len(mesh.vertices))[0])


def cap(mesh: Mesh, plane: Plane, rim_height: float, tolerance: float) -> tuple[Mesh, int]:
    """Close the cut with flat faces that look away from the object.

    Args:
        rim_height: height of the cut above the plane; boundaries that leave it by more than `tolerance` stay open.

    Returns:
        the mesh and the number of boundaries closed.
    """
    off = np.abs(heights(plane, mesh.vertices) - rim_height) <= tolerance
    # against the faces around them, the cap's edges run the other way
    loops = [loop[::-1] for loop in boundary_loops(mesh.faces) if off[loop].all()]
    if not loops:
        return mesh, 0
    axes = _plane_axes(plane)
    flat = [mesh.vertices[loop] @ axes.T for loop in loops]
    areas = [area(polygon) for polygon in flat]
    outer = [i for i, value in enumerate(areas) if value > 0]
    inner: dict[int, list[int]] = {i: [] for i in outer}
    alone = []
    for i in (i for i, value in enumerate(areas) if value <= 0):
        around = [k for k in outer if areas[k] > -areas[i] and contains(flat[k], flat[i][0])]
        if around:
            inner[min(around, key=lambda k: areas[k])].append(i)
        else:
            alone.append(i)
    patches = [loops[i][triangulate(flat[i])] for i in alone]
    for i in outer:
        ring = with_holes(flat[i], [flat[k] for k in inner[i]])
        members = [loops[i], *(loops[k] for k in inner[i])]
        index = np.array([members[polygon][corner] for polygon, corner in ring])
        points = mesh.vertices[index] @ axes.T
        patches.append(index[triangulate(points)])
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, *patches])), len(loops)


def stand(mesh: Mesh, plane: Plane, rim_height: float, tolerance: float) -> Mesh:
    """The mesh with its cut moved down to the plane: an object reaches down to what it stands on.

    Args:
        rim_height: height of the cut above the plane; vertices within `tolerance` of it are moved.
    """
    h = heights(plane, mesh.vertices)
    moved = np.abs(h - rim_height) <= tolerance
    down = np.array(plane.normal) / np.linalg.norm(plane.normal)
    return replace(mesh, vertices=mesh.vertices - np.where(moved, h, 0.0)[:, None] * down)


def _plane_axes(plane: Plane) -> FloatArray:
    """[2, 3] axes in the plane, right-handed with the direction that looks down from it."""
    down = -np.array(plane.normal) / np.linalg.norm(plane.normal)
    first = np.cross(down, np.eye(3)[int(np.argmin(np.abs(down)))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(down, first)])
