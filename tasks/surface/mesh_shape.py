"""From a mesh that the train stage made to the full mesh: what lies in the region, facing the cameras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.camera import Matrix4, transform_points
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.mesh.representation import MeshRepresentation
from models.mesh.topology import keep_faces
from tasks.context import Context
from tasks.surface.options import SurfaceOptions
from tasks.surface.shape import Scene, Shape, finish_shape, without_plane


def find_shape(scene: Scene, options: SurfaceOptions, context: Context) -> Shape:
    """The cleaned mesh; with its faces turned round where the cameras would otherwise see their backs.

    A scene without masks has no outside to close: what no photo sees of it stays open.

    Raises DigitizeError(empty_surface, not_finite, all_floaters, inside_out).
    """
    if not isinstance(scene.model, MeshRepresentation):
        raise TypeError(f"expected a mesh, found a representation of kind '{scene.model.kind}'")
    made = scene.model.mesh
    if broken := int((~np.isfinite(made.vertices)).any(1).sum()):
        raise DigitizeError(ReasonCode.NOT_FINITE, f"expected finite vertices, found {broken} that are not")
    raw = cropped(replace(made, uv=None, texture=None, colors=None, seen=None), scene.poses.world_from_field)
    if len(raw.faces) == 0:
        message = f"expected a mesh inside the region of interest, found none of its {len(made.faces)} faces there"
        raise DigitizeError(ReasonCode.EMPTY_SURFACE, message)
    if not any(image.mask for image in scene.poses.images):
        options = options.model_copy(update={"watertight": False})
    facts: dict[str, Any] = {"raw_faces": len(made.faces), "cropped_faces": len(made.faces) - len(raw.faces)}
    try:
        mesh, facts = finish_shape(raw, scene, options, context, facts)
    except DigitizeError as error:
        if error.code is not ReasonCode.INSIDE_OUT:
            raise
        turned = replace(raw, faces=np.ascontiguousarray(raw.faces[:, ::-1]))
        mesh, facts = finish_shape(turned, scene, options, context, {**facts, "turned": True})
    return Shape(mesh, facts, without_plane(scene.poses, options))


def cropped(mesh: Mesh, world_from_field: Matrix4) -> Mesh:
    """The faces that lie in the region's cube with all their corners."""
    local = transform_points(np.linalg.inv(np.array(world_from_field)), mesh.vertices)
    inside: npt.NDArray[np.bool_] = np.asarray((np.abs(local) <= 1.0).all(1))
    return keep_faces(mesh, np.asarray(inside[mesh.faces].all(1)))
