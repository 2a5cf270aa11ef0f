"""The texture as an image file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from PIL import Image

from models.errors import DigitizeError, ReasonCode
from tasks.mesh.mesh import FloatArray, Mesh

JPEG_QUALITY = 95


def encode(mesh: Mesh, kind: Literal["png", "jpeg"]) -> bytes:
    """The mesh's texture as a PNG, or as a JPEG with full colour resolution. Equal textures give equal bytes."""
    if mesh.texture is None:
        raise DigitizeError(ReasonCode.INTERNAL, "expected a mesh with a texture, found none")
    data = io.BytesIO()
    picture = Image.fromarray(mesh.texture)
    if kind == "png":
        picture.save(data, "PNG", compress_level=4)
    else:
        picture.save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data.getvalue()


def uv_of(mesh: Mesh) -> FloatArray:
    """[V, 2] texture coordinates. Raises DigitizeError when there are none."""
    if mesh.uv is None:
        raise DigitizeError(ReasonCode.INTERNAL, "expected a mesh with texture coordinates, found none")
    return mesh.uv


def write_color(path: Path, mesh: Mesh) -> str:
    """Write the texture beside the model `path` as `<stem>_color.png`; returns the file's name."""
    target = path.with_name(f"{path.stem}_color.png")
    target.write_bytes(encode(mesh, "png"))
    return target.name
