"""Binary STL for printing: the bare shape with Z up, as slicers have it, in millimetres where the scale is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.camera import Vector3, gltf_from_world, transform_points
from models.mesh.mesh import Mesh
from models.mesh.raycast import face_normals

SUFFIX = ".stl"
MEDIA_TYPES = {".stl": "model/stl"}
MILLIMETRES = 1000.0
"""STL holds no unit; every slicer takes its numbers for millimetres."""


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write the shape alone. Lengths of the capture are taken as metres.

    Args:
        up: the direction in the capture's frame that becomes +Z.
    """
    turned = transform_points(gltf_from_world(up), mesh.vertices)
    vertices = np.stack([turned[:, 0], -turned[:, 2], turned[:, 1]], 1) * MILLIMETRES
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows = np.zeros(len(mesh.faces), record)
    rows["normal"] = face_normals(Mesh(vertices, mesh.faces))
    rows["corners"] = vertices[mesh.faces]
    header = b"asset-digitizer, millimetres, Z up".ljust(80, b" ")
    path.write_bytes(header + np.uint32(len(rows)).tobytes() + rows.tobytes())
