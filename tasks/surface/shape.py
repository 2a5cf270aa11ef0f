"""From the field to the full mesh: the surface at the likeliest level, cleaned, cut and repaired, or a fallback.

Every check that refuses a surface names what is tried instead; what was tried is told in the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.camera import FloatArray, PoseSet, similarity_scale, transform_points
from models.errors import DigitizeError, ReasonCode
from models.fields.base import Field
from models.mesh.mesh import Mesh
from models.results import Reason
from tasks.context import Context
from tasks.surface.checks import check_surface, check_walls
from tasks.surface.clean import Cleaned, clean
from tasks.surface.extract import extract, round_resolution
from tasks.surface.hidden import hidden_cells
from tasks.surface.level import rank_levels
from tasks.surface.manifold import hole_report, make_manifold
from tasks.surface.options import ShapeOptions
from tasks.surface.project import project
from tasks.surface.seen import seen_vertices, without_unseen
from tasks.surface.support import cap, cut, heights
from tasks.surface.views import View

MINIMUM_SIZE = 0.05
"""Diagonal of the smallest object, as a share of the region's side; anything below is a floater."""
CUBE = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
BROKEN_SHARE = 0.01
"""Share of values that are not finite with which a field may still be used, when it is admitted."""
THICKER_CELLS = (0.0, 1.0)
"""Levels of distance fields that are tried, in cells outwards: one that trained too thin has no inside of its own."""
MOST_HOLES = 20
"""Holes that the report lists one by one."""
SMOOTH_DENSITY = 1.0
"""Cells of smoothing for densities unless the options say otherwise; distances are smooth by themselves."""

_RETRIED = {ReasonCode.EMPTY_SURFACE, ReasonCode.ALL_FLOATERS, ReasonCode.INSIDE_OUT, ReasonCode.NOT_FINITE}
_NO_PLANE = "Set `surface.options.support: keep` for objects without a support, or place the object on a flat table."


@dataclass(frozen=True)
class Shape:
    """The full mesh in the world and how it came about."""

    mesh: Mesh
    facts: dict[str, Any]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Attempt:
    """One way to take the surface."""

    level: float
    name: str
    factor: float = 1.0
    broken_share: float = 0.0
    flip: bool = False


def find_shape(field: Field, poses: PoseSet, views: list[View], options: ShapeOptions, context: Context) -> Shape:
    """The cleaned surface by the first attempt that gives one; raises the first attempt's error when none does."""
    failures: list[DigitizeError] = []
    waiting = _attempts(field, poses, views, options, context)
    while waiting:
        attempt = waiting.pop(0)
        try:
            mesh, facts = _attempt(field, attempt, poses, views, options, context)
        except DigitizeError as error:
            if error.code not in _RETRIED:
                raise
            failures.append(error)
            waiting = [*_instead(attempt, error, field), *waiting]
            continue
        reasons = [
            Reason.of(error.code, f"{error.message}; used instead: {attempt.name}")
            for error in {error.code: error for error in reversed(failures)}.values()
        ]
        if options.support == "cut" and poses.support is None:
            message = "expected the plane of the support to cut the object off it, found none: the support was kept"
            reasons.append(Reason.of(ReasonCode.NO_REGION, message, hint=_NO_PLANE))
        return Shape(mesh, {**facts, "level": attempt.level, "level_factor": attempt.factor}, tuple(reasons))
    raise failures[0]


def _attempts(
    field: Field, poses: PoseSet, views: list[View], options: ShapeOptions, context: Context
) -> list[Attempt]:
    """Levels to try in turn, the likeliest first."""
    if field.kind == "sdf":
        cell = 2.0 / round_resolution(options.resolution)
        return [Attempt(field.level + k * cell, f"the level {k:g} cells further out") for k in THICKER_CELLS]
    support = poses.support if options.support == "cut" else None
    above = (lambda points: heights(support, points) > 0) if support is not None else None
    factors = rank_levels(
        field, views, poses.world_from_field, above, context.threads, context.check, broken_share=BROKEN_SHARE
    )
    return [Attempt(field.level * factor, f"{factor:g} times the field's level", factor) for factor in factors]


def _instead(attempt: Attempt, error: DigitizeError, field: Field) -> Sequence[Attempt]:
    """What the failure itself suggests, before other levels."""
    if error.code == ReasonCode.NOT_FINITE and attempt.broken_share == 0:
        return [replace(attempt, name="values that are not finite taken as outside", broken_share=BROKEN_SHARE)]
    if error.code == ReasonCode.INSIDE_OUT and field.kind == "sdf" and not attempt.flip:
        return [replace(attempt, name="the field with its sign turned", flip=True)]
    return []


def _attempt(
    field: Field, attempt: Attempt, poses: PoseSet, views: list[View], options: ShapeOptions, context: Context
) -> tuple[Mesh, dict[str, Any]]:
    raw, facts = _raw_surface(field, attempt, poses, options, context)
    check_surface(raw, CUBE)
    check_walls(raw, round_resolution(options.resolution))
    world = replace(raw, vertices=transform_points(poses.world_from_field, raw.vertices))
    side = 2.0 * similarity_scale(poses.world_from_field)
    context.progress(0.4, "cleaning", {"faces": len(world.faces)})
    margin = options.support_margin * side
    if options.support == "cut" and poses.support is not None:
        world = cut(world, poses.support, margin).mesh
        if len(world.faces) == 0:
            raise DigitizeError(ReasonCode.EMPTY_SURFACE, "expected an object above its support, found nothing there")
        facts["support_cut"] = True
    cleaned = clean(world, views, options.floater_share, MINIMUM_SIZE * side, context.threads, context.check)
    mesh = cleaned.mesh
    if facts["support_cut"] and options.cap and poses.support is not None:
        mesh, facts["caps"] = cap(mesh, poses.support, margin, 1e-6 * side)
    return _finished(mesh, views, options, context, {**facts, **_removed(cleaned)})


def _finished(
    mesh: Mesh, views: list[View], options: ShapeOptions, context: Context, facts: dict[str, Any]
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


def _raw_surface(
    field: Field, attempt: Attempt, poses: PoseSet, options: ShapeOptions, context: Context
) -> tuple[Mesh, dict[str, Any]]:
    """The field's surface in field coordinates, voids that no camera sees into filled. A coarse surface finds these."""
    smooth = options.smooth_cells
    if smooth is None:
        smooth = SMOOTH_DENSITY if field.kind == "density" else 0.0
    half, broken, flip = options.resolution // 2, attempt.broken_share, attempt.flip
    first = extract(field, half, attempt.level, smooth / 2, context.check, broken_share=broken, flip=flip)
    facts: dict[str, Any] = {"raw_faces": len(first.faces), "support_cut": False}
    if len(first.faces) == 0:
        return first, facts
    context.progress(0.1, "what no camera sees", {})
    solid = hidden_cells(first, _eyes(poses), poses.world_from_field, poses.support, context.threads, context.check)

    def report(share: float) -> None:
        context.progress(0.1 + 0.3 * share, "surface of the field", {})

    mesh = extract(field, options.resolution, attempt.level, smooth, context.check, report, solid, broken, flip)
    facts["raw_faces"] = len(mesh.faces)
    if field.kind == "sdf" and smooth == 0 and len(mesh.faces):
        mesh, facts["level_error"] = project(
            field, mesh, attempt.level, round_resolution(options.resolution), context.check
        )
    return mesh, facts


def _eyes(poses: PoseSet) -> list[FloatArray]:
    """Camera centres in field coordinates."""
    inverse = np.linalg.inv(np.array(poses.world_from_field))
    return list(transform_points(inverse, np.array([image.centre for image in poses.images])))
