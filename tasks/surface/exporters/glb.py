"""Binary glTF 2.0: one mesh, one physically based material, the texture embedded; Y is up, lengths are kept."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Vector3, gltf_from_world, transform_points
from tasks.mesh.mesh import Mesh
from tasks.surface.exporters.texture import encode, uv_of
from tasks.surface.topology import vertex_normals

SUFFIX = ".glb"
ROUGHNESS = 0.9
"""Photographs hold no gloss of their own to be measured: nearly matt looks right under any light."""

_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_UNSIGNED_INT, _FLOAT = 5125, 5126
_LINEAR, _LINEAR_MIPMAPS, _CLAMP = 9729, 9987, 33071


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write a textured mesh. Equal meshes give equal bytes.

    Args:
        up: the direction in the capture's frame that becomes glTF's +Y.
    """
    turn = gltf_from_world(up)
    positions = transform_points(turn, mesh.vertices).astype("<f4")
    normals = (vertex_normals(mesh) @ turn[:3, :3].T).astype("<f4")
    # glTF counts v from the top of the picture
    uv = (uv_of(mesh) * (1.0, -1.0) + (0.0, 1.0)).astype("<f4")
    blob = _Blob()
    attributes = {
        "POSITION": blob.accessor(positions, "VEC3", bounds=True),
        "NORMAL": blob.accessor(normals, "VEC3"),
        "TEXCOORD_0": blob.accessor(uv, "VEC2"),
    }
    indices = blob.accessor(mesh.faces.astype("<u4").reshape(-1), "SCALAR")
    image = blob.view(encode(mesh, "jpeg"), None)
    document = {
        "asset": {"version": "2.0", "generator": "asset-digitizer"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": path.stem}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0, "mode": 4}]}],
        "materials": [
            {
                "name": "surface",
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": 0.0,
                    "roughnessFactor": ROUGHNESS,
                },
            }
        ],
        "textures": [{"sampler": 0, "source": 0}],
        "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAPS, "wrapS": _CLAMP, "wrapT": _CLAMP}],
        "images": [{"bufferView": image, "mimeType": "image/jpeg"}],
        "accessors": blob.accessors,
        "bufferViews": blob.views,
        "buffers": [{"byteLength": len(blob.data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = bytes(blob.data)
    with path.open("wb") as out:
        out.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(data)))
        out.write(struct.pack("<I4s", len(text), b"JSON") + text)
        out.write(struct.pack("<I4s", len(data), b"BIN\0") + data)


class _Blob:
    """The binary part of the file, and what describes it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, content: bytes, target: int | None) -> int:
        """Append bytes, aligned to 4; returns the buffer view's index."""
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += content + b"\0" * (-len(content) % 4)
        return len(self.views) - 1

    def accessor(self, values: npt.NDArray[np.generic], kind: str, bounds: bool = False) -> int:
        """Append an array; returns the accessor's index. A scalar array holds vertex indices."""
        whole = kind == "SCALAR"
        accessor = {
            "bufferView": self.view(values.tobytes(), _ELEMENT_BUFFER if whole else _ARRAY_BUFFER),
            "componentType": _UNSIGNED_INT if whole else _FLOAT,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            accessor["min"], accessor["max"] = values.min(0).tolist(), values.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1
