"""What is wrong with a mesh as a mesh: holes, pieces, bad edges and faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.camera import Matrix4, Vector3, gltf_from_world, transform_points
from models.mesh.mesh import Mesh
from tasks.quality.base import MeshChecks

DEGENERATE = 1e-12
"""Faces of less area than this share of the squared diagonal have no direction."""
REGION_MARGIN = 1.01


def check_mesh(mesh: Mesh, world_from_field: Matrix4, up: Vector3) -> MeshChecks:
    """Count the defects of a mesh in the capture's frame.

    Vertices at exactly one position are joined first: files split them along texture seams, which is no hole. An edge
    is a boundary with one face, non-manifold with more than two; shares are of all edges and of all faces.

    Args:
        world_from_field: similarity from [-1, 1]^3 to the region of interest.
        up: unit vector of the capture's frame.
    """
    finite = bool(np.isfinite(mesh.vertices).all())
    vertices = np.where(np.isfinite(mesh.vertices), mesh.vertices, 0.0)
    positions, inverse = np.unique(vertices, axis=0, return_inverse=True)
    faces = inverse.reshape(-1)[mesh.faces]
    a, b, c = (positions[faces[:, k]] for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2.0
    diagonal = float(np.linalg.norm(positions.max(0) - positions.min(0)))
    degenerate = int((areas <= DEGENERATE * diagonal**2).sum())
    edges, uses = _edges(faces)
    boundary, crowded = int((uses == 1).sum()), int((uses > 2).sum())
    local = transform_points(np.linalg.inv(np.array(world_from_field)), positions)
    turned = transform_points(gltf_from_world(up), positions)
    size = turned.max(0) - turned.min(0)
    return MeshChecks(
        vertices=len(positions),
        faces=len(faces),
        components=_components(edges, faces, len(positions)),
        boundary_edges=boundary,
        non_manifold_edges=crowded,
        non_manifold_share=crowded / max(1, len(edges)),
        degenerate_faces=degenerate,
        degenerate_share=degenerate / max(1, len(faces)),
        watertight=len(faces) > 0 and boundary == 0 and crowded == 0,
        finite=finite,
        outside_share=float((np.abs(local) > REGION_MARGIN).any(1).mean()),
        area=float(areas.sum()),
        extent=(float(size[0]), float(size[1]), float(size[2])),
    )


def _edges(faces: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """[E, 2] edges between different vertices and how many faces use each [E]."""
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    key = pairs[:, 0] * (int(faces.max()) + 1) + pairs[:, 1]
    _, first, uses = np.unique(key, return_index=True, return_counts=True)
    return pairs[first], uses.astype(np.int64)


def _components(edges: npt.NDArray[np.int64], faces: npt.NDArray[np.int64], count: int) -> int:
    """Number of pieces among the vertices that faces use."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, label = connected_components(links, directed=False)
    return len(np.unique(label[np.unique(faces)]))
