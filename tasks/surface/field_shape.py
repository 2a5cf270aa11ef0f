"""From a field to the full mesh: the surface at the likeliest level, or a fallback.

Every check that refuses a surface names what is tried instead; what was tried is told in the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.camera import FloatArray, PoseSet, transform_points
from models.errors import DigitizeError, ReasonCode
from models.fields.base import Field
from models.fields.representation import FieldRepresentation
from models.mesh.mesh import Mesh
from models.results import Reason
from tasks.context import Context
from tasks.surface.checks import check_surface, check_walls
from tasks.surface.extract import extract, round_resolution
from tasks.surface.hidden import hidden_cells
from tasks.surface.level import rank_levels
from tasks.surface.options import IsosurfaceOptions
from tasks.surface.project import project
from tasks.surface.shape import CUBE, Scene, Shape, finish_shape, without_plane
from tasks.surface.support import heights

BROKEN_SHARE = 0.01
"""Share of values that are not finite with which a field may still be used, when it is admitted."""
THICKER_CELLS = (0.0, 1.0)
"""Levels of distance fields that are tried, in cells outwards: one that trained too thin has no inside of its own."""
SMOOTH_DENSITY = 1.0
"""Cells of smoothing for densities unless the options say otherwise; distances are smooth by themselves."""

_RETRIED = {ReasonCode.EMPTY_SURFACE, ReasonCode.ALL_FLOATERS, ReasonCode.INSIDE_OUT, ReasonCode.NOT_FINITE}


@dataclass(frozen=True)
class Attempt:
    """One way to take the surface."""

    level: float
    name: str
    factor: float = 1.0
    broken_share: float = 0.0
    flip: bool = False


def find_shape(scene: Scene, options: IsosurfaceOptions, context: Context) -> Shape:
    """The cleaned surface by the first attempt that gives one; raises the first attempt's error when none does."""
    if not isinstance(scene.model, FieldRepresentation):
        raise TypeError(f"expected a field, found a representation of kind '{scene.model.kind}'")
    field = scene.model.field
    failures: list[DigitizeError] = []
    waiting = _attempts(field, scene, options, context)
    while waiting:
        attempt = waiting.pop(0)
        try:
            mesh, facts = _attempt(field, attempt, scene, options, context)
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
        reasons += without_plane(scene.poses, options)
        return Shape(mesh, {**facts, "level": attempt.level, "level_factor": attempt.factor}, tuple(reasons))
    raise failures[0]


def _attempts(field: Field, scene: Scene, options: IsosurfaceOptions, context: Context) -> list[Attempt]:
    """Levels to try in turn, the likeliest first."""
    if field.quantity == "sdf":
        cell = 2.0 / round_resolution(options.resolution)
        return [Attempt(field.level + k * cell, f"the level {k:g} cells further out") for k in THICKER_CELLS]
    support = scene.poses.support if options.support == "cut" else None
    above = (lambda points: heights(support, points) > 0) if support is not None else None
    factors = rank_levels(
        field,
        scene.views,
        scene.poses.world_from_field,
        above,
        context.threads,
        context.check,
        broken_share=BROKEN_SHARE,
    )
    return [Attempt(field.level * factor, f"{factor:g} times the field's level", factor) for factor in factors]


def _instead(attempt: Attempt, error: DigitizeError, field: Field) -> Sequence[Attempt]:
    """What the failure itself suggests, before other levels."""
    if error.code == ReasonCode.NOT_FINITE and attempt.broken_share == 0:
        return [replace(attempt, name="values that are not finite taken as outside", broken_share=BROKEN_SHARE)]
    if error.code == ReasonCode.INSIDE_OUT and field.quantity == "sdf" and not attempt.flip:
        return [replace(attempt, name="the field with its sign turned", flip=True)]
    return []


def _attempt(
    field: Field, attempt: Attempt, scene: Scene, options: IsosurfaceOptions, context: Context
) -> tuple[Mesh, dict[str, Any]]:
    raw, facts = _raw_surface(field, attempt, scene.poses, options, context)
    check_surface(raw, CUBE)
    check_walls(raw, round_resolution(options.resolution))
    world = replace(raw, vertices=transform_points(scene.poses.world_from_field, raw.vertices))
    return finish_shape(world, scene, options, context, facts)


def _raw_surface(
    field: Field, attempt: Attempt, poses: PoseSet, options: IsosurfaceOptions, context: Context
) -> tuple[Mesh, dict[str, Any]]:
    """The field's surface in field coordinates, voids that no camera sees into filled. A coarse surface finds these."""
    smooth = options.smooth_cells
    if smooth is None:
        smooth = SMOOTH_DENSITY if field.quantity == "density" else 0.0
    half, broken, flip = options.resolution // 2, attempt.broken_share, attempt.flip
    first = extract(field, half, attempt.level, smooth / 2, context.check, broken_share=broken, flip=flip)
    facts: dict[str, Any] = {"raw_faces": len(first.faces)}
    if len(first.faces) == 0:
        return first, facts
    context.progress(0.1, "what no camera sees", {})
    solid = hidden_cells(first, _eyes(poses), poses.world_from_field, poses.support, context.threads, context.check)

    def report(share: float) -> None:
        context.progress(0.1 + 0.3 * share, "surface of the field", {})

    mesh = extract(field, options.resolution, attempt.level, smooth, context.check, report, solid, broken, flip)
    facts["raw_faces"] = len(mesh.faces)
    if field.quantity == "sdf" and smooth == 0 and len(mesh.faces):
        mesh, facts["level_error"] = project(
            field, mesh, attempt.level, round_resolution(options.resolution), context.check
        )
    return mesh, facts


def _eyes(poses: PoseSet) -> list[FloatArray]:
    """Camera centres in field coordinates."""
    inverse = np.linalg.inv(np.array(poses.world_from_field))
    return list(transform_points(inverse, np.array([image.centre for image in poses.images])))
