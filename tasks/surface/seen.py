"""Which parts of a surface the photographs saw, and which the method had to make up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.camera import project
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import keep_faces, vertex_normals
from tasks.surface.views import View

SIGHTS = 2
"""Photos that must show a place for it to be measured: one alone knows no depth."""
GRAZING = 0.05
"""Cosine of the viewing angle below which a photo tells nothing."""
TOLERANCE = 0.002
"""Share of the mesh's diagonal by which a vertex may lie behind the first hit and still be seen."""


def seen_vertices(
    mesh: Mesh, views: Sequence[View], threads: int = 0, check: Callable[[], None] = lambda: None
) -> npt.NDArray[np.bool_]:
    """[V] whether at least two photos show each vertex (all of them, where there are fewer).

    A vertex is not looked at again once it was seen often enough, so most photos test few of them.
    """
    needed = min(SIGHTS, len(views))
    caster = RayCaster(mesh, threads)
    tolerance = TOLERANCE * mesh.diagonal
    normals = vertex_normals(mesh)
    sights = np.zeros(len(mesh.vertices), np.int8)
    for number in _spread(len(views)):
        check()
        view = views[number]
        camera, eye = view.camera, view.c2w[:3, 3]
        left = np.nonzero(sights < needed)[0]
        to_eye = eye - mesh.vertices[left]
        cosine = np.einsum("ni,ni->n", normals[left], to_eye) / np.maximum(np.linalg.norm(to_eye, axis=1), 1e-300)
        left = left[cosine > GRAZING]
        uv, depth = project(camera, view.c2w, mesh.vertices[left])
        inside = (depth > 0) & (uv >= 0).all(1) & (uv < (camera.width, camera.height)).all(1)
        left, uv = left[inside], uv[inside]
        mask = view.mask()
        if mask is not None:
            column, row = uv.astype(np.int64).T
            left = left[mask[row, column]]
        sights[left[caster.visible(mesh.vertices[left], eye, tolerance)]] += 1
    return np.asarray(sights >= needed)


def without_unseen(mesh: Mesh) -> Mesh:
    """The mesh without the faces none of whose corners was seen: open where no photo looked."""
    return mesh if mesh.seen is None else keep_faces(mesh, np.asarray(mesh.seen[mesh.faces].any(1)))


def _spread(count: int) -> list[int]:
    """The numbers 0 .. count - 1, far apart ones first: consecutive photos show the same side."""
    return [int(k) for k in np.argsort((np.arange(count) * 0.6180339887498949) % 1.0, kind="stable")]
