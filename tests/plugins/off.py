"""An exporter in one file: the Object File Format, in the capture's frame."""

from __future__ import annotations

from pathlib import Path

from models.camera import Vector3
from models.mesh.mesh import Mesh

SUFFIX = ".off"
MEDIA_TYPES = {".off": "model/x-off"}


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write vertices and faces."""
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
    lines += [" ".join(f"{value:.9g}" for value in vertex) for vertex in mesh.vertices]
    lines += [f"3 {a} {b} {c}" for a, b, c in mesh.faces]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
