"""PLY with texture coordinates, in the capture's frame; the texture lies beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.camera import Vector3
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from models.mesh.texture import uv_of, write_maps

SUFFIX = ".ply"
MEDIA_TYPES = {".ply": "application/octet-stream", ".png": "image/png"}


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write `<stem>.ply` and `<stem>_color.png`. The format has no up axis: `up` changes nothing."""
    picture = write_maps(path, mesh, "color")["color"]
    write_ply(path, replace(mesh, uv=uv_of(mesh), colors=None, seen=None))
    # viewers look for the texture's name in a comment of the header
    head, tail = path.read_bytes().split(b"\nelement vertex", 1)
    path.write_bytes(head + f"\ncomment TextureFile {picture}".encode("ascii") + b"\nelement vertex" + tail)
