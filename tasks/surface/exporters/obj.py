"""Wavefront OBJ with its material file and texture, in the capture's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.camera import Vector3
from tasks.mesh.mesh import Mesh
from tasks.surface.exporters.texture import uv_of, write_color
from tasks.surface.topology import vertex_normals

SUFFIX = ".obj"


def write(path: Path, mesh: Mesh, up: Vector3) -> None:
    """Write `<stem>.obj`, `<stem>.mtl` and `<stem>_color.png`. The format has no up axis: `up` changes nothing."""
    picture = write_color(path, mesh)
    material = path.with_suffix(".mtl")
    material.write_text(
        f"newmtl surface\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Kd {picture}\n", encoding="ascii"
    )
    corner = mesh.faces + 1
    with path.open("w", encoding="ascii", newline="\n") as out:
        out.write(f"mtllib {material.name}\no {path.stem}\n")
        np.savetxt(out, mesh.vertices, "v %.9g %.9g %.9g")
        np.savetxt(out, uv_of(mesh), "vt %.7f %.7f")
        np.savetxt(out, vertex_normals(mesh), "vn %.5f %.5f %.5f")
        out.write("usemtl surface\n")
        np.savetxt(out, np.repeat(corner, 3, axis=1), "f %d/%d/%d %d/%d/%d %d/%d/%d")
