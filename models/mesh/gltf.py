"""Binary glTF 2.0: a mesh in glTF's conventions, one physically based material, the maps embedded.

`write_glb` is the plain file; `Document` is what extensions of it (Draco) share.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Vector3, gltf_from_world, transform_points
from models.mesh.mesh import Mesh
from models.mesh.texture import encode, maps_of, uv_of
from models.mesh.topology import vertex_normals

ROUGHNESS = 0.9
"""Photographs hold no gloss of their own to be measured: nearly matt looks right under any light."""
OCCLUSION = 0.5
"""Strength of the occlusion map: the photographs already hold part of these shadows."""

_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_UNSIGNED_INT, _FLOAT = 5125, 5126
_LINEAR, _LINEAR_MIPMAPS, _CLAMP = 9729, 9987, 33071


@dataclass(frozen=True)
class Geometry:
    """A mesh in glTF's axes: +Y up, v from the top of the picture."""

    positions: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    uv: npt.NDArray[np.float32]
    indices: npt.NDArray[np.uint32]
    """[3 F]"""


def geometry_of(mesh: Mesh, up: Vector3) -> Geometry:
    """Positions turned so that `up` is +Y; unit normals; uv [V, 2] counted from the top."""
    turn = gltf_from_world(up)
    normals = vertex_normals(mesh) @ turn[:3, :3].T
    return Geometry(
        transform_points(turn, mesh.vertices).astype("<f4"),
        normals.astype("<f4"),
        (uv_of(mesh) * (1.0, -1.0) + (0.0, 1.0)).astype("<f4"),
        mesh.faces.astype("<u4").reshape(-1),
    )


def write_glb(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write a textured mesh; Y is up, lengths are kept. Equal meshes give equal bytes.

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


class Document:
    """A binary glTF in the making: its material and maps are those of a mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self._data = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []
        self._primitive: dict[str, Any] = {}
        self._extensions: list[str] = []
        # geometry first: viewers that stream show the shape before its maps
        self._maps = {name: encode(picture, "jpeg") for name, picture in maps_of(mesh).items()}

    def view(self, content: bytes, target: int | None = None) -> int:
        """Append bytes, aligned to 4; returns the buffer view's index."""
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": len(content)}
        self._views.append(view if target is None else {**view, "target": target})
        self._data += content + b"\0" * (-len(content) % 4)
        return len(self._views) - 1

    def accessor(self, values: npt.NDArray[np.generic], kind: str, bounds: bool = False, stored: bool = True) -> int:
        """Describe an array and append it, unless an extension stores it. A scalar array holds vertex indices."""
        whole = kind == "SCALAR"
        accessor: dict[str, Any] = {
            "componentType": _UNSIGNED_INT if whole else _FLOAT,
            "count": len(values),
            "type": kind,
        }
        if stored:
            accessor["bufferView"] = self.view(values.tobytes(), _ELEMENT_BUFFER if whole else _ARRAY_BUFFER)
        if bounds:
            accessor["min"], accessor["max"] = values.min(0).tolist(), values.max(0).tolist()
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def primitive(
        self, attributes: dict[str, int], indices: int, extensions: dict[str, dict[str, Any]] | None = None
    ) -> None:
        """Set what is drawn; a reader must know the extensions."""
        self._primitive = {"attributes": attributes, "indices": indices, "material": 0, "mode": 4}
        if extensions:
            self._primitive["extensions"] = extensions
            self._extensions = sorted(extensions)

    def write(self, path: Path) -> None:
        """Write the file."""
        images = [{"bufferView": self.view(data), "mimeType": "image/jpeg"} for data in self._maps.values()]
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "asset-digitizer"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0, "name": path.stem}],
            "meshes": [{"primitives": [self._primitive]}],
            "materials": [self._material()],
            "textures": [{"sampler": 0, "source": number} for number in range(len(images))],
            "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAPS, "wrapS": _CLAMP, "wrapT": _CLAMP}],
            "images": images,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self._data)}],
        }
        if self._extensions:
            document["extensionsUsed"] = document["extensionsRequired"] = self._extensions
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        with path.open("wb") as out:
            out.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(self._data)))
            out.write(struct.pack("<I4s", len(text), b"JSON") + text)
            out.write(struct.pack("<I4s", len(self._data), b"BIN\0") + self._data)

    def _material(self) -> dict[str, Any]:
        number = {name: index for index, name in enumerate(self._maps)}
        material: dict[str, Any] = {
            "name": "surface",
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": number["color"]},
                "metallicFactor": 0.0,
                "roughnessFactor": ROUGHNESS,
            },
        }
        if "normal" in number:
            material["normalTexture"] = {"index": number["normal"]}
        if "occlusion" in number:
            material["occlusionTexture"] = {"index": number["occlusion"], "strength": OCCLUSION}
        return material
