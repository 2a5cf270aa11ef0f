"""What follows from a mesh's faces: edges, components, normals, areas, volume. Pure numpy and scipy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import FloatArray, IntArray, Mesh

BoolArray = npt.NDArray[np.bool_]


def face_edges(faces: IntArray) -> IntArray:
    """[3F, 2] directed edges, face by face: (0, 1), (1, 2), (2, 0)."""
    return faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)


def edge_table(faces: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Undirected edges.

    Returns:
        edges [E, 2] with the smaller vertex first; count [E] of faces at each; and which edge [3F] each directed
        edge of `face_edges` is.
    """
    directed = np.sort(face_edges(faces), axis=1)
    span = int(faces.max(initial=0)) + 1
    keys, which, count = np.unique(directed[:, 0] * span + directed[:, 1], return_inverse=True, return_counts=True)
    return np.stack([keys // span, keys % span], 1), count, which.ravel()


def components(faces: IntArray) -> IntArray:
    """[F] label of the edge-connected component of each face, 0 .. C - 1."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if len(faces) == 0:
        return np.zeros(0, np.int64)
    edges, _, which = edge_table(faces)
    owner = np.repeat(np.arange(len(faces)), 3)
    # bipartite graph of faces and edges: no pairs have to be enumerated where many faces meet
    graph = coo_matrix(
        (np.ones(len(owner), np.int8), (owner, len(faces) + which)), shape=(len(faces) + len(edges),) * 2
    )
    _, labels = connected_components(graph, directed=False)
    _, compact = np.unique(labels[: len(faces)], return_inverse=True)
    return compact.ravel().astype(np.int64)


def face_areas(mesh: Mesh) -> FloatArray:
    """[F] areas."""
    a, b, c = np.moveaxis(mesh.triangles, 1, 0)
    areas: FloatArray = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2.0
    return areas


def signed_volume(mesh: Mesh) -> float:
    """Volume that the faces enclose: positive when they wind counter-clockwise seen from outside."""
    if len(mesh.faces) == 0:
        return 0.0
    # around the centre: the sum is then well conditioned, and nearly right for surfaces with small holes
    a, b, c = np.moveaxis(mesh.triangles - mesh.vertices.mean(0), 1, 0)
    return float(np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6.0)


def vertex_normals(mesh: Mesh) -> FloatArray:
    """[V, 3] unit normals, the mean of the faces around weighted by area.

    Vertices at the same place (the two sides of a texture seam) share their normal. A vertex without area gets +z.
    """
    place = places(mesh.vertices)
    a, b, c = np.moveaxis(mesh.triangles, 1, 0)
    cross = np.cross(b - a, c - a)
    total = np.zeros((int(place.max(initial=-1)) + 1, 3))
    for corner in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(place[mesh.faces[:, corner]], cross[:, axis], minlength=len(total))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    unit = np.where(length > 0, total / np.where(length > 0, length, 1.0), (0.0, 0.0, 1.0))
    return np.asarray(unit[place])


def places(points: FloatArray) -> IntArray:
    """[N] a number for each point [N, 3], the same for points at exactly one place."""
    # a hash of the bits sorts ten times faster than rows do; two of 2^64 collide in no mesh
    bits = np.ascontiguousarray(points + 0.0).view(np.uint64).reshape(-1, 3)
    with np.errstate(over="ignore"):
        mixed = bits * np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
        mixed ^= mixed >> np.uint64(29)
        key = (mixed * np.array([3, 5, 7], np.uint64)).sum(1, dtype=np.uint64)
        key ^= key >> np.uint64(32)
    _, place = np.unique(key, return_inverse=True)
    return place.ravel().astype(np.int64)


def keep_faces(mesh: Mesh, keep: npt.NDArray[np.bool_] | IntArray) -> Mesh:
    """The mesh of some faces (mask or indices), without the vertices that nothing uses any more."""
    faces = mesh.faces[keep]
    used, renumbered = np.unique(faces, return_inverse=True)
    return mesh.take(used, renumbered.reshape(-1, 3).astype(np.int64))


def boundary_loops(faces: IntArray) -> list[IntArray]:
    """Vertex indices of each closed boundary, in the direction in which its faces run.

    Boundaries that touch at a vertex are parted there, so that each loop passes a vertex once; chains that do not
    close are left out.
    """
    _, count, which = edge_table(faces)
    open_edges = face_edges(faces)[count[which] == 1]
    following: dict[int, list[int]] = {}
    for a, b in open_edges.tolist():
        following.setdefault(a, []).append(b)
    loops = []
    for start in sorted(following):
        path, place = [start], {start: 0}
        while following.get(path[-1]):
            at = following[path[-1]].pop()
            if at not in place:
                place[at] = len(path)
                path.append(at)
                continue
            loop, path = path[place[at] :], path[: place[at] + 1]
            for vertex in loop[1:]:
                del place[vertex]
            if len(loop) >= 3:
                loops.append(np.array(loop, np.int64))
    return loops
