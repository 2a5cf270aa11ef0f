"""Binary glTF 2.0 with the geometry compressed by Draco (KHR_draco_mesh_compression): for the web."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.camera import Vector3
from models.errors import DigitizeError, ReasonCode
from models.mesh.gltf import Document, Geometry, geometry_of
from models.mesh.mesh import Mesh

SUFFIX = ".draco.glb"
MEDIA_TYPES = {".glb": "model/gltf-binary"}
REQUIRES = "DracoPy"
POSITION_BITS = 14
"""Positions keep one part in 16,384 of the longest side: half a tenth of a millimetre on an object of a metre."""
UV_BITS = 14
"""A quarter of a texel of a texture of 4096 pixels."""
NORMAL_BITS = 10
LEVEL = 7
"""Of 10: the last three cost seconds and save nothing worth it."""


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write a textured mesh. Equal meshes give equal bytes; vertices come back in another order.

    Args:
        up: the direction in the capture's frame that becomes glTF's +Y.
    """
    geometry = geometry_of(mesh, up)
    document = Document(mesh)
    packed = _encode(geometry)
    # what a decoder will find is what the accessors must describe: rounded positions, maybe fewer vertices
    found = _decode(packed)
    attributes = {
        "POSITION": document.accessor(found.positions, "VEC3", bounds=True, stored=False),
        "NORMAL": document.accessor(found.normals, "VEC3", stored=False),
        "TEXCOORD_0": document.accessor(found.uv, "VEC2", stored=False),
    }
    extension = {"bufferView": document.view(packed), "attributes": _ids(packed)}
    document.primitive(
        attributes,
        document.accessor(found.indices, "SCALAR", stored=False),
        {"KHR_draco_mesh_compression": extension},
    )
    document.write(path)


def _encode(geometry: Geometry) -> bytes:
    import DracoPy

    data: bytes = DracoPy.encode(
        geometry.positions,
        geometry.indices.reshape(-1, 3),
        quantization_bits=POSITION_BITS,
        compression_level=LEVEL,
        tex_coord=geometry.uv.astype(np.float64),
        normals=geometry.normals.astype(np.float64),
        tex_coord_quantization_bits=UV_BITS,
        normal_quantization_bits=NORMAL_BITS,
        preserve_order=False,
    )
    return data


def _decode(packed: bytes) -> Geometry:
    import DracoPy

    found = DracoPy.decode(packed)
    if found.normals is None or found.tex_coord is None:
        raise DigitizeError(ReasonCode.INTERNAL, "expected Draco to keep normals and texture coordinates, found none")
    return Geometry(
        np.asarray(found.points, "<f4"),
        np.asarray(found.normals, "<f4"),
        np.asarray(found.tex_coord, "<f4"),
        np.asarray(found.faces, "<u4").reshape(-1),
    )


def _ids(packed: bytes) -> dict[str, int]:
    """Draco's own number of each attribute."""
    import DracoPy

    kinds = {0: "POSITION", 1: "NORMAL", 3: "TEXCOORD_0"}
    return {kinds[a["attribute_type"]]: int(a["unique_id"]) for a in DracoPy.decode(packed).attributes}
