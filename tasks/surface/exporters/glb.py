"""Binary glTF 2.0: one mesh, one physically based material, the maps embedded; Y is up, lengths are kept."""

from __future__ import annotations

from pathlib import Path

from models.camera import Vector3
from models.mesh.mesh import Mesh
from tasks.surface.exporters.gltf import Document, geometry_of

SUFFIX = ".glb"
MEDIA_TYPES = {".glb": "model/gltf-binary"}


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write a textured mesh. Equal meshes give equal bytes.

    Args:
        up: the direction in the capture's frame that becomes glTF's +Y.
    """
    geometry = geometry_of(mesh, up)
    document = Document(mesh)
    document.primitive(
        {
            "POSITION": document.accessor(geometry.positions, "VEC3", bounds=True),
            "NORMAL": document.accessor(geometry.normals, "VEC3"),
            "TEXCOORD_0": document.accessor(geometry.uv, "VEC2"),
        },
        document.accessor(geometry.indices, "SCALAR"),
    )
    document.write(path)
