"""From a raw mesh to the full mesh: cleaned, cut off its support, made manifold, its unseen parts marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.camera import PoseSet, similarity_scale
from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import Mesh
from models.representation import Representation
from models.results import Reason
from tasks.context import Context
from tasks.surface.clean import Cleaned, clean
from tasks.surface.manifold import hole_report, make_manifold
from tasks.surface.options import SurfaceOptions
from tasks.surface.seen import seen_vertices, without_unseen
from tasks.surface.support import cap, cut, stand
from tasks.surface.views import View

MINIMUM_SIZE = 0.05
"""Diagonal of the smallest object, as a share of the region's side; anything below is a floater."""
CUBE = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
MOST_HOLES = 20
"""Holes that the report lists one by one."""
_NO_PLANE = "Set `surface.options.support: keep` for objects without a support, or place the object on a flat table."


@dataclass(frozen=True)
class Scene:
    """What a shape is found from."""

    model: Representation
    poses: PoseSet
    views: Sequence[View]
    """The training photos."""


@dataclass(frozen=True)
class Shape:
    """The full mesh in the world and how it came about."""

    mesh: Mesh
    facts: dict[str, Any]
    reasons: tuple[Reason, ...]


def finish_shape(
    world: Mesh, scene: Scene, options: SurfaceOptions, context: Context, facts: dict[str, Any]
) -> tuple[Mesh, dict[str, Any]]:
    """The full mesh of a raw one [vertices in the world], and `facts` with what was done added.

    Raises DigitizeError(empty_surface, all_floaters, inside_out) when nothing usable is left.
    """
    poses, views = scene.poses, scene.views
    side = 2.0 * similarity_scale(poses.world_from_field)
    context.progress(0.4, "cleaning", {"faces": len(world.faces)})
    margin = options.support_margin * side
    facts = {**facts, "support_cut": options.support == "cut" and poses.support is not None}
    if options.support == "cut" and poses.support is not None:
        world = cut(world, poses.support, margin).mesh
        if len(world.faces) == 0:
            raise DigitizeError(ReasonCode.EMPTY_SURFACE, "expected an object above its support, found nothing there")
    cleaned = clean(world, views, options.floater_share, MINIMUM_SIZE * side, context.threads, context.check)
    mesh = cleaned.mesh
    if facts["support_cut"] and options.cap and poses.support is not None:
        mesh, facts["caps"] = cap(mesh, poses.support, margin, 1e-6 * side)
        mesh = stand(mesh, poses.support, margin, 1e-6 * side)
    return _finished(mesh, views, options, context, {**facts, **_removed(cleaned)})


def without_plane(poses: PoseSet, options: SurfaceOptions) -> tuple[Reason, ...]:
    """The reason for review where a support was to be cut off and the pose stage found none."""
    if options.support != "cut" or poses.support is not None:
        return ()
    message = "expected the plane of the support to cut the object off it, found none: the support was kept"
    return (Reason.of(ReasonCode.NO_REGION, message, hint=_NO_PLANE),)


def _finished(
    mesh: Mesh, views: Sequence[View], options: SurfaceOptions, context: Context, facts: dict[str, Any]
) -> tuple[Mesh, dict[str, Any]]:
    """The cleaned mesh made manifold, its unseen parts marked or taken away; and what there is to say of it."""
    context.progress(0.45, "edges, holes, and what was seen", {"faces": len(mesh.faces)})
    context.check()
    repaired = make_manifold(mesh, options.watertight)
    mesh = replace(repaired.mesh, seen=seen_vertices(repaired.mesh, views, context.threads, context.check))
    facts["unseen_share"] = 1.0 - float(np.mean(mesh.seen)) if mesh.seen is not None else 0.0
    if options.unseen == "remove":
        mesh = without_unseen(mesh)
        if len(mesh.faces) == 0:
            raise DigitizeError(ReasonCode.ALL_FLOATERS, "expected a surface that two photos see, found none")
    facts["repair"] = {
        "split_vertices": repaired.split_vertices,
        "removed_faces": repaired.removed_faces,
        "closed_holes": repaired.closed_holes,
    }
    holes = hole_report(mesh)
    facts["holes"], facts["largest_holes"] = len(holes), holes[:MOST_HOLES]
    return mesh, facts


def _removed(cleaned: Cleaned) -> dict[str, Any]:
    return {
        "components_removed": cleaned.components_removed,
        "area_removed_share": cleaned.area_removed_share,
        "back_share": cleaned.back_share,
    }
