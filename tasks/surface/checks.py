"""Surfaces that must not be passed on, and the figures that describe one."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.camera import FloatArray
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.raycast import face_normals
from models.mesh.topology import components, edge_table, face_areas, signed_volume

SLACK = 1e-6
"""Share of the box's side by which rounding may carry a vertex over its walls."""


def check_surface(mesh: Mesh, box: FloatArray, minimum_faces: int = 20) -> None:
    """Refuse a surface that is empty, not finite, outside its box, or inside out.

    Args:
        box: [2, 3] lower and upper corner of where the surface may lie.

    Raises:
        DigitizeError: empty_surface, not_finite, outside_region or inside_out.
    """
    if len(mesh.faces) < minimum_faces:
        message = f"expected a surface of at least {minimum_faces} faces, found {len(mesh.faces)}"
        raise DigitizeError(ReasonCode.EMPTY_SURFACE, message)
    broken = int((~np.isfinite(mesh.vertices)).any(1).sum())
    if broken:
        raise DigitizeError(ReasonCode.NOT_FINITE, f"expected finite vertices, found {broken} that are not")
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    slack = SLACK * float((box[1] - box[0]).max())
    if (low < box[0] - slack).any() or (high > box[1] + slack).any():
        raise DigitizeError(
            ReasonCode.OUTSIDE_REGION,
            f"expected vertices between {box[0].tolist()} and {box[1].tolist()}, "
            f"found {low.tolist()} to {high.tolist()}",
        )
    volume = signed_volume(mesh)
    # an open surface encloses nothing: which side is its outside is for the cameras to say
    if volume < 0 and (edge_table(mesh.faces)[1] > 1).all():
        message = f"expected faces that look outwards, found a signed volume of {volume:.3g}"
        raise DigitizeError(ReasonCode.INSIDE_OUT, message)


def check_walls(mesh: Mesh, resolution: int) -> None:
    """Refuse a surface that fills the cube [-1, 1]^3: it is closed at nearly all of the walls, its outside is inside.

    A table or a wall behind the object reaches one or two of them.

    Raises:
        DigitizeError(inside_out): more than half of at least five of the walls is surface.
    """
    areas, centre, normals = face_areas(mesh), mesh.triangles.mean(1), face_normals(mesh)
    covered = 0
    for axis in range(3):
        for side in (-1.0, 1.0):
            at_wall = (side * centre[:, axis] > 1.0 - 3.0 / resolution) & (side * normals[:, axis] > 0.9)
            covered += int(areas[at_wall].sum() > 0.5 * 4.0)
    if covered >= 5:
        message = f"expected an object inside its region, found a surface that covers {covered} of the region's 6 walls"
        raise DigitizeError(ReasonCode.INSIDE_OUT, message)


def statistics(mesh: Mesh) -> dict[str, Any]:
    """Figures of a mesh: sizes, topology, area and volume in the mesh's unit. JSON values."""
    edges, count, _ = edge_table(mesh.faces)
    parts = int(components(mesh.faces).max(initial=-1)) + 1
    areas = face_areas(mesh)
    boundary, crowded = int((count == 1).sum()), int((count > 2).sum())
    used = len(np.unique(mesh.faces))
    watertight = boundary == 0 and crowded == 0 and len(mesh.faces) > 0
    figures: dict[str, Any] = {
        "faces": len(mesh.faces),
        "vertices": used,
        "components": parts,
        "boundary_edges": boundary,
        "non_manifold_share": crowded / max(len(edges), 1),
        "degenerate_share": float((areas <= 1e-12 * max(mesh.diagonal, 1e-300) ** 2).mean()) if len(areas) else 0.0,
        "watertight": watertight,
        "area": float(areas.sum()),
        "volume": signed_volume(mesh),
    }
    if watertight:
        # Euler's formula, summed over the components
        figures["genus"] = (2 * parts - (used - len(edges) + len(mesh.faces))) // 2
    return figures
