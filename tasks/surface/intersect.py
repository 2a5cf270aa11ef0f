"""Faces that pass through each other, and their repair: printers, slicers and physics engines refuse such meshes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.mesh.mesh import FloatArray, IntArray, Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import BoolArray, edge_table, keep_faces
from tasks.surface.clean import fill_holes, tidy
from tasks.surface.manifold import make_manifold

SMOOTHINGS = 6
"""Rounds in which the corners of such faces move towards their neighbours, before the faces are cut out instead."""
ROUNDS = 10
LARGEST_PATCH = 200
"""Edges around the hole that a cut-out patch leaves."""


def self_intersections(mesh: Mesh, threads: int = 0) -> IntArray:
    """Indices of the faces that another face's edge passes through, and of the faces of that edge.

    Faces that share a corner with the edge do not count: they meet there. Faces that are folded flat onto each other
    are not found.
    """
    if len(mesh.faces) == 0:
        return np.zeros(0, np.int64)
    edges, _, which = edge_table(mesh.faces)
    edge, face = RayCaster(mesh, threads).crossings(mesh.vertices[edges])
    apart = ~(mesh.faces[face][:, :, None] == edges[edge][:, None, :]).any((1, 2))
    edge, face = edge[apart], face[apart]
    exact = _crosses(mesh.vertices[edges[edge]], mesh.triangles[face])
    edge, face = edge[exact], face[exact]
    owners = np.nonzero(np.isin(which, edge))[0] // 3
    return np.unique(np.concatenate([face, owners]))


def _crosses(segments: FloatArray, triangles: FloatArray) -> BoolArray:
    """[N] whether segments [N, 2, 3] pass through triangles [N, 3, 3], in doubles (Moeller and Trumbore 1997)."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    o, d = segments[:, 0], segments[:, 1] - segments[:, 0]
    p = np.cross(d, c - a)
    determinant = np.einsum("ni,ni->n", b - a, p)
    scale = np.where(np.abs(determinant) < 1e-300, np.inf, determinant)
    u = np.einsum("ni,ni->n", o - a, p) / scale
    q = np.cross(o - a, b - a)
    v = np.einsum("ni,ni->n", d, q) / scale
    t = np.einsum("ni,ni->n", c - a, q) / scale
    return np.asarray((u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1) & np.isfinite(scale))


def untangle(mesh: Mesh, threads: int = 0) -> tuple[Mesh, int]:
    """The mesh without self-intersections where that can be had: smoothed there, then cut out and closed again.

    Returns:
        the mesh and the number of faces that still intersect.
    """
    work = mesh
    for round_ in range(ROUNDS):
        bad = self_intersections(work, threads)
        if len(bad) == 0:
            return work, 0
        if round_ < SMOOTHINGS:
            work = _relaxed(work, np.unique(work.faces[bad]))
        else:
            work = _cut_out(work, bad, rings=round_ - SMOOTHINGS + 1)
    return work, len(self_intersections(work, threads))


def _relaxed(mesh: Mesh, chosen: IntArray) -> Mesh:
    """Some vertices moved half the way to the mean of their neighbours."""
    edges, _, _ = edge_table(mesh.faces)
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.isin(both[:, 0], chosen)]
    count = np.bincount(both[:, 0], minlength=len(mesh.vertices))
    mean = np.stack([np.bincount(both[:, 0], mesh.vertices[both[:, 1], k], len(mesh.vertices)) for k in range(3)], 1)
    vertices = mesh.vertices.copy()
    vertices[chosen] = 0.5 * (vertices[chosen] + mean[chosen] / np.maximum(count[chosen], 1)[:, None])
    return replace(mesh, vertices=vertices)


def _cut_out(mesh: Mesh, bad: IntArray, rings: int) -> Mesh:
    drop = np.zeros(len(mesh.faces), bool)
    drop[bad] = True
    for _ in range(rings):
        touched = np.zeros(len(mesh.vertices), bool)
        touched[mesh.faces[drop].ravel()] = True
        drop |= touched[mesh.faces].any(1)
    holed = make_manifold(keep_faces(mesh, ~drop)).mesh
    closed, _ = fill_holes(holed, LARGEST_PATCH)
    return make_manifold(tidy(closed)).mesh
