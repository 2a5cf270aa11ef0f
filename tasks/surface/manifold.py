"""Meshes that printers and slicers take: at most two faces at an edge, one fan of faces at a vertex, no holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.mesh.mesh import IntArray, Mesh
from models.mesh.topology import boundary_loops, components, edge_table, face_areas, keep_faces
from tasks.surface.clean import fill_holes, tidy

ROUNDS = 4
FEWEST = 4
"""Faces of the smallest closed body; what has fewer was a fin."""
SMALL = 12
"""Edges around a hole that a repair may leave behind and closes again."""


@dataclass(frozen=True)
class Repaired:
    """A mesh after repair and what was done to it."""

    mesh: Mesh
    split_vertices: int
    removed_faces: int
    closed_holes: int


def make_manifold(mesh: Mesh, watertight: bool = False) -> Repaired:
    """Part what touches at a vertex or an edge only; drop faces that still crowd an edge and close the gaps they leave.

    Args:
        watertight: close every other hole as well, whatever its size.
    """
    split = removed = closed = 0
    work = tidy(mesh)
    for _ in range(ROUNDS):
        work, more = split_fans(work)
        split += more
        crowded = _crowding(work)
        if len(crowded) == 0:
            break
        removed += len(crowded)
        keep = np.ones(len(work.faces), bool)
        keep[crowded] = False
        work, holes = fill_holes(keep_faces(work, keep), SMALL)
        closed += holes
        work = tidy(work)
    label = components(work.faces)
    crumbs = np.bincount(label)[label] < FEWEST if len(label) else np.zeros(0, bool)
    removed += int(crumbs.sum())
    work = keep_faces(work, ~crumbs) if crumbs.any() else work
    if watertight:
        work, holes = fill_holes(work, len(work.faces) * 3)
        closed += holes
        work, more = split_fans(work)
        split += more
    return Repaired(work, split, removed, closed)


def split_fans(mesh: Mesh) -> tuple[Mesh, int]:
    """One copy of each vertex for each fan of faces around it; returns the mesh and the number of copies.

    Corners belong together when an edge joins their faces that has exactly two, so sheets that only touch along
    edges or at vertices come apart.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = mesh.faces
    if len(faces) == 0:
        return mesh, 0
    _, count, which = edge_table(faces)
    order = np.argsort(which, kind="stable")
    first = np.searchsorted(which[order], np.nonzero(count == 2)[0])
    one, two = order[first], order[first + 1]
    # directed edge e of face f runs from corner e to the next; corner k of face f is number 3 f + k
    start, end = np.arange(3 * len(faces)), np.arange(3 * len(faces)).reshape(-1, 3)[:, [1, 2, 0]].ravel()
    corner = faces.ravel()
    opposed = corner[start[one]] == corner[end[two]]
    a = np.concatenate([start[one], end[one]])
    b = np.concatenate([np.where(opposed, end[two], start[two]), np.where(opposed, start[two], end[two])])
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(len(corner),) * 2)
    _, label = connected_components(graph, directed=False)
    _, representative, fan = np.unique(label, return_index=True, return_inverse=True)
    source = corner[representative]
    split = len(source) - len(np.unique(corner))
    # vertices keep their order: files of a mesh that needs no repair do not change
    rank = np.argsort(source, kind="stable")
    number = np.empty(len(source), np.int64)
    number[rank] = np.arange(len(source))
    source = source[rank]
    return mesh.take(source, number[fan.ravel()].reshape(-1, 3)), split


def _crowding(mesh: Mesh) -> IntArray:
    """Faces to drop so that no edge has more than two: fins with open edges first, then the smaller ones."""
    _, count, which = edge_table(mesh.faces)
    crowded = np.nonzero(count[which] > 2)[0]
    if len(crowded) == 0:
        return np.zeros(0, np.int64)
    face, edge = crowded // 3, which[crowded]
    open_edges = (count[which] == 1).reshape(-1, 3).sum(1)
    order = np.lexsort((-face_areas(mesh)[face], open_edges[face], edge))
    edge, face = edge[order], face[order]
    place = np.arange(len(edge)) - np.searchsorted(edge, edge)
    return np.unique(face[place >= 2])


def hole_report(mesh: Mesh) -> list[dict[str, Any]]:
    """The boundaries of a mesh, the longest first: edges, length and centre of each, in the mesh's unit."""
    rows: list[dict[str, Any]] = []
    for loop in boundary_loops(mesh.faces):
        points = mesh.vertices[loop]
        length = float(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum())
        rows.append({"edges": len(loop), "length": length, "centre": [float(x) for x in points.mean(0)]})
    return sorted(rows, key=lambda row: -row["length"])
