"""Texture coordinates: charts and their packing by xatlas, over parts of the mesh so that time stays linear."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import FloatArray, IntArray, Mesh
from models.mesh.raycast import face_normals
from models.mesh.topology import edge_table, places

PART_FACES = 8_000
"""Charting one part takes about (faces)^1.6: larger meshes are charted in parts of at most this size."""
SMOOTHINGS = 10
"""Rounds of smoothing before charting, at 100,000 faces or more: rough surfaces fall into a quarter of the charts."""
PADDING = 4
"""Texels between charts of a texture of 2048 pixels or less; larger ones keep that distance in their smaller copies."""


@dataclass(frozen=True)
class Atlas:
    """Where each corner of each face lies in the texture."""

    corner_uv: FloatArray
    """[F, 3, 2] in [0, 1], origin at the lower left."""
    charts: int
    utilization: float
    """Share of the square texture that charts cover."""


def unwrap(mesh: Mesh, texture_size: int) -> Atlas:
    """Charts without overlap in a square texture.

    Args:
        texture_size: pixels along the texture; sets how far apart charts lie.
    """
    import xatlas

    atlas = xatlas.Atlas()
    parts = split(mesh, PART_FACES)
    chartable = _smoothed(mesh, round(SMOOTHINGS * min(1.0, len(mesh.faces) / 100_000)))
    size = np.ptp(chartable, axis=0).max()
    centred = ((chartable - chartable.mean(0)) / size).astype(np.float32)
    for part in parts:
        used, local = np.unique(mesh.faces[part], return_inverse=True)
        atlas.add_mesh(centred[used], local.reshape(-1, 3).astype(np.uint32))
    charting, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charting.max_iterations = 1
    padding = PADDING * max(1, texture_size // 2048)
    packing.resolution, packing.padding, packing.bilinear = texture_size, padding, True
    atlas.generate(charting, packing)
    if atlas.atlas_count != 1:
        raise DigitizeError(ReasonCode.INTERNAL, f"expected charts in one texture, found {atlas.atlas_count}")
    corner_uv = np.zeros((len(mesh.faces), 3, 2))
    square = np.array([atlas.width, atlas.height]) / max(atlas.width, atlas.height)
    for number, part in enumerate(parts):
        _, indices, uv = atlas.get_mesh(number)
        # one scale for both axes: texels stay square on the surface
        corner_uv[part] = uv[indices].astype(np.float64) * square
    covered = float(np.abs(_uv_areas(corner_uv)).sum())
    return Atlas(np.clip(corner_uv, 0.0, 1.0), int(atlas.chart_count), covered)


def _smoothed(mesh: Mesh, rounds: int) -> FloatArray:
    """[V, 3] vertices moved towards the mean of their neighbours: charts follow the shape, not its roughness."""
    from scipy.sparse import coo_matrix

    vertices = mesh.vertices
    if rounds == 0:
        return vertices
    edges, _, _ = edge_table(mesh.faces)
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    links = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(vertices),) * 2).tocsr()
    count = np.maximum(np.asarray(links.sum(1)), 1.0)
    for _ in range(rounds):
        vertices = 0.5 * (vertices + (links @ vertices) / count)
    return vertices


def split(mesh: Mesh, size: int) -> list[IntArray]:
    """Indices of faces in parts of at most `size`, halved along the direction in which place and normal vary most."""
    centre = mesh.triangles.mean(1)
    spread = max(float(np.ptp(centre, axis=0).max(initial=0.0)), 1e-300)
    features = np.concatenate([centre / spread, 0.5 * face_normals(mesh)], axis=1)
    ready, waiting = [], [np.arange(len(mesh.faces))]
    while waiting:
        part = waiting.pop()
        if len(part) <= size:
            ready.append(np.sort(part))
            continue
        local = features[part] - features[part].mean(0)
        _, axes = np.linalg.eigh(local.T @ local)
        order = part[np.argsort(local @ axes[:, -1], kind="stable")]
        waiting += [order[: len(order) // 2], order[len(order) // 2 :]]
    return ready


def textured(mesh: Mesh, atlas: Atlas) -> Mesh:
    """The mesh with a vertex for each (vertex, texture place): what files can hold."""
    corner = mesh.faces.ravel()
    uv = atlas.corner_uv.reshape(-1, 2)
    rows = np.concatenate([corner[:, None].astype(np.float64), uv], axis=1)
    _, first, which = np.unique(places(rows), return_index=True, return_inverse=True)
    # vertices in the order of the mesh's own: files compress better
    order = np.argsort(first, kind="stable")
    order = order[np.argsort(corner[first[order]], kind="stable")]
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    source = first[order]
    return replace(mesh.take(corner[source], number[which.ravel()].reshape(-1, 3)), uv=uv[source])


def _uv_areas(corner_uv: FloatArray) -> FloatArray:
    a, b = corner_uv[:, 1] - corner_uv[:, 0], corner_uv[:, 2] - corner_uv[:, 0]
    areas: FloatArray = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2.0
    return areas
