"""The maps of a mesh as image files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from PIL import Image

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import ByteArray, FloatArray, Mesh

JPEG_QUALITY = 95
NAMES = {"color": "texture", "normal": "normal_map", "occlusion": "occlusion"}
"""Suffix of a map's file and the field of `Mesh` that holds it."""


def maps_of(mesh: Mesh) -> dict[str, ByteArray]:
    """The maps that a mesh has, by their file's suffix: `color` always. Raises DigitizeError without a texture."""
    if mesh.texture is None:
        raise DigitizeError(ReasonCode.INTERNAL, "expected a mesh with a texture, found none")
    found = {name: getattr(mesh, field) for name, field in NAMES.items()}
    return {name: picture for name, picture in found.items() if picture is not None}


def encode(picture: ByteArray, kind: Literal["png", "jpeg"]) -> bytes:
    """A map as a PNG, or as a JPEG with full colour resolution. Equal maps give equal bytes."""
    data = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "png":
        image.save(data, "PNG", compress_level=1)
    else:
        image.save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data.getvalue()


def uv_of(mesh: Mesh) -> FloatArray:
    """[V, 2] texture coordinates. Raises DigitizeError when there are none."""
    if mesh.uv is None:
        raise DigitizeError(ReasonCode.INTERNAL, "expected a mesh with texture coordinates, found none")
    return mesh.uv


def write_maps(path: Path, mesh: Mesh, *names: str) -> dict[str, str]:
    """Write maps beside the model `path` as `<stem>_<name>.png`; file names by map, of those that the mesh has."""
    written = {}
    for name, picture in maps_of(mesh).items():
        if name in names:
            target = path.with_name(f"{path.stem}_{name}.png")
            target.write_bytes(encode(picture, "png"))
            written[name] = target.name
    return written
