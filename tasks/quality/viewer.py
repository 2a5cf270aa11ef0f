"""The mesh packed for the report's own 3D view: quantised buffers as base64, read by `viewer.js`."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Vector3, gltf_from_world, transform_points
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, sample_texture
from tasks.quality.pictures import data_uri, to_jpeg

FloatArray = npt.NDArray[np.float64]


def pack_mesh(mesh: Mesh, up: Vector3, max_faces: int, texture_px: int, threads: int = 0) -> dict[str, Any]:
    """What `viewer.js` draws, as JSON values.

    Positions are 16-bit over the bounding cube, in glTF's axes; normals 8-bit; uv 16-bit over their range. A mesh
    with more than `max_faces` faces is simplified and then carries the surface's colours at its vertices.

    Args:
        mesh: in the capture's frame.
        up: unit vector of that frame.
        texture_px: longer side of the texture.
    """
    if len(mesh.faces) > max_faces:
        mesh = _thinned(mesh, max_faces, threads)
    positions = transform_points(gltf_from_world(up), mesh.vertices)
    low, high = positions.min(0), positions.max(0)
    size = max(float((high - low).max()), 1e-300)
    centre = (low + high) / 2
    unit = (positions - centre) / size + 0.5  # in [0, 1]
    packed: dict[str, Any] = {
        "faces": len(mesh.faces),
        "extent": [float(x) for x in (high - low) / size],
        "positions": _base64(np.round(np.clip(unit, 0, 1) * 65535).astype("<u2"), pad_to=4),
        "normals": _base64(np.round(_vertex_normals(positions, mesh.faces) * 127).astype("i1"), pad_to=4),
        "indices": base64.b64encode(mesh.faces.astype("<u4").tobytes()).decode(),
    }
    if mesh.uv is not None and mesh.texture is not None:
        start, span = mesh.uv.min(0), np.maximum(np.ptp(mesh.uv, axis=0), 1e-9)
        packed["uv"] = _base64(np.round((mesh.uv - start) / span * 65535).astype("<u2"))
        packed["uv_start"], packed["uv_span"] = start.tolist(), span.tolist()
        packed["texture"] = data_uri(to_jpeg(mesh.texture, texture_px, quality=82))
    else:
        colors = mesh.colors if mesh.colors is not None else np.full((len(positions), 3), 178, np.uint8)
        packed["colors"] = _base64(colors, pad_to=4)
    return packed


def _base64(rows: npt.NDArray[Any], pad_to: int = 0) -> str:
    """Rows [N, C], widened to `pad_to` columns: GPUs want attributes that start at multiples of four bytes."""
    if pad_to > rows.shape[1]:
        rows = np.pad(rows, ((0, 0), (0, pad_to - rows.shape[1])))
    return base64.b64encode(np.ascontiguousarray(rows).tobytes()).decode()


def _vertex_normals(positions: FloatArray, faces: npt.NDArray[np.int64]) -> FloatArray:
    """[V, 3] area-weighted; vertices at one position (split along texture seams) share theirs."""
    _, inverse = np.unique(positions, axis=0, return_inverse=True)
    joined = inverse.reshape(-1)
    a, b, c = (positions[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    summed = np.zeros((int(joined.max()) + 1, 3))
    for k in range(3):
        np.add.at(summed, joined[faces[:, k]], cross)
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    normals: FloatArray = np.divide(summed, length, out=np.zeros_like(summed), where=length > 0)[joined]
    return normals


def _thinned(mesh: Mesh, max_faces: int, threads: int) -> Mesh:
    """Quadric simplification (Garland and Heckbert 1997); colours from the nearest places of the full surface."""
    import open3d

    # joined where texture seams split the surface: it would tear there
    positions, inverse = np.unique(mesh.vertices, axis=0, return_inverse=True)
    full = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(positions), open3d.utility.Vector3iVector(inverse.reshape(-1)[mesh.faces])
    )
    thin = full.simplify_quadric_decimation(target_number_of_triangles=max_faces)
    vertices = np.asarray(thin.vertices).copy()
    _, face = RayCaster(mesh, threads).closest(vertices)
    rgb = sample_texture(mesh, face, _barycentric(mesh.triangles[face], vertices))
    colors = (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Mesh(vertices, np.asarray(thin.triangles).astype(np.int64), colors=colors)


def _barycentric(triangles: FloatArray, points: FloatArray) -> FloatArray:
    """[N, 2] weights of the second and third corner of triangles [N, 3, 3] at points [N, 3], clipped."""
    ab, ac = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    ap = points - triangles[:, 0]
    bb, bc, cc = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    pb, pc = (ap * ab).sum(1), (ap * ac).sum(1)
    area = np.maximum(bb * cc - bc * bc, 1e-300)
    weights = np.clip(np.stack([cc * pb - bc * pc, bb * pc - bc * pb], 1) / area[:, None], 0.0, 1.0)
    clipped: FloatArray = weights / np.maximum(weights.sum(1, keepdims=True), 1.0)
    return clipped
