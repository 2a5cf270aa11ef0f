"""The surface stage from the field to the files: the order of the steps, what they report, and the fallbacks."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from models.camera import PoseSet, similarity_scale, transform_points
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.fields import load_field
from models.fields.base import Field
from models.quality import Verdict
from models.results import Reason, StageResult
from tasks.context import Context
from tasks.mesh.io import write_ply
from tasks.mesh.mesh import Mesh
from tasks.surface.bake import Baked, bake
from tasks.surface.checks import check_surface, statistics
from tasks.surface.clean import Cleaned, clean
from tasks.surface.colour import field_colours
from tasks.surface.decimate import decimate
from tasks.surface.extract import extract
from tasks.surface.hidden import hidden_cells
from tasks.surface.level import rank_levels
from tasks.surface.support import cap, cut, heights
from tasks.surface.topology import keep_faces, vertex_normals
from tasks.surface.unwrap import Atlas, textured, unwrap
from tasks.surface.views import View

MINIMUM_SIZE = 0.05
"""Diagonal of the smallest object, as a share of the region's side; anything below is a floater."""
CUBE = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])

_RETRIED = {ReasonCode.EMPTY_SURFACE, ReasonCode.ALL_FLOATERS, ReasonCode.INSIDE_OUT}


class SurfaceOptions(Protocol):
    """What the line reads of a method's options; `methods/isosurface.py` explains each."""

    @property
    def resolution(self) -> int: ...
    @property
    def smooth_cells(self) -> float: ...
    @property
    def support(self) -> str: ...
    @property
    def support_margin(self) -> float: ...
    @property
    def cap(self) -> bool: ...
    @property
    def floater_share(self) -> float: ...
    @property
    def faces(self) -> int: ...
    @property
    def texture_size(self) -> int: ...
    @property
    def angle_power(self) -> float: ...
    @property
    def blend_sharpness(self) -> float: ...
    @property
    def equalise(self) -> bool: ...
    @property
    def formats(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Shape:
    """The full mesh in the world and how it came about."""

    mesh: Mesh
    facts: dict[str, Any]
    reasons: tuple[Reason, ...]


def make_surface(context: Context, options: SurfaceOptions) -> StageResult:
    """All steps of one asset. Raises DigitizeError when no level of the field gives a usable surface."""
    torch.set_num_threads(max(1, context.threads))
    poses = PoseSet.model_validate_json(context.fetch("pose", "poses.json").read_bytes())
    views = [View(image, lambda path: context.fetch("pose", path)) for image in poses.of_split("train")]
    if not views:
        raise DigitizeError(ReasonCode.POSES_INVALID, "expected training images in poses.json, found none")
    field = load_field(context.fetch_all("train") / "field", context.device)
    shape = find_shape(field, poses, views, options, context)
    full = shape.mesh
    normals = vertex_normals(full)
    full = replace(full, colors=field_colours(field, full.vertices, normals, poses.world_from_field, context.check))
    write_ply(context.output / "mesh.ply", full)
    context.progress(0.55, "fewer faces", {"faces": len(full.faces)})
    small = decimate(replace(full, colors=None), options.faces)
    check_surface(small, _world_box(poses, full))
    context.progress(0.6, "texture coordinates", {"faces": len(small.faces)})
    context.check()
    atlas = unwrap(small, options.texture_size)
    baked = _bake(small, atlas, views, field, poses, options, context)
    asset = replace(textured(small, atlas), texture=baked.texture)
    for name in options.formats:
        exporter = importlib.import_module(f"tasks.surface.exporters.{name}")
        exporter.write(context.output / f"asset{exporter.SUFFIX}", asset, poses.up)
    facts = {**shape.facts, **_facts(full, small, atlas, baked)}
    (context.output / "surface.json").write_bytes(canonical_json({**facts, "units": poses.units}) + b"\n")
    verdict = Verdict.REVIEW if shape.reasons else Verdict.ACCEPT
    context.progress(1.0, "surface done", {"faces": len(small.faces)})
    return StageResult(facts=facts, verdict=verdict, reasons=shape.reasons)


def find_shape(field: Field, poses: PoseSet, views: list[View], options: SurfaceOptions, context: Context) -> Shape:
    """The cleaned surface at the first level of the ladder that gives one."""
    failure: DigitizeError | None = None
    for factor in _factors(field, poses, views, options, context):
        try:
            mesh, facts = _at_level(field, field.level * factor, poses, views, options, context)
        except DigitizeError as error:
            if error.code not in _RETRIED:
                raise
            failure = failure or error
            continue
        reasons: list[Reason] = []
        if failure is not None:
            message = f"the likeliest level gave no surface ({failure.message}); {factor:g} times the field's level did"
            reasons.append(Reason.of(failure.code, message))
        if options.support == "cut" and poses.support is None:
            message = "expected the plane of the support to cut the object off it, found none: the support was kept"
            reasons.append(Reason.of(ReasonCode.NO_REGION, message, hint=_NO_PLANE))
        return Shape(mesh, {**facts, "level": field.level * factor, "level_factor": factor}, tuple(reasons))
    raise failure if failure is not None else DigitizeError(ReasonCode.EMPTY_SURFACE, "no level was tried")


def _factors(
    field: Field, poses: PoseSet, views: list[View], options: SurfaceOptions, context: Context
) -> Sequence[float]:
    """Multiples of the field's level to try in turn."""
    if field.kind == "sdf":
        return (1.0,)
    support = poses.support if options.support == "cut" else None
    above = (lambda points: heights(support, points) > 0) if support is not None else None
    return rank_levels(field, views, poses.world_from_field, above, context.threads, context.check)


_NO_PLANE = "Set `surface.options.support: keep` for objects without a support, or place the object on a flat table."


def _at_level(
    field: Field, level: float, poses: PoseSet, views: list[View], options: SurfaceOptions, context: Context
) -> tuple[Mesh, dict[str, Any]]:
    raw = _raw_surface(field, level, poses, options, context)
    check_surface(raw, CUBE)
    world = replace(raw, vertices=transform_points(poses.world_from_field, raw.vertices))
    side = 2.0 * similarity_scale(poses.world_from_field)
    context.progress(0.42, "cleaning", {"faces": len(world.faces)})
    facts: dict[str, Any] = {"raw_faces": len(raw.faces), "support_cut": False}
    if options.support == "cut" and poses.support is not None:
        margin = options.support_margin * side
        world = cut(world, poses.support, margin).mesh
        if len(world.faces) == 0:
            raise DigitizeError(ReasonCode.EMPTY_SURFACE, "expected an object above its support, found nothing there")
        cleaned = _clean(world, views, options, side, context)
        facts["support_cut"] = True
        mesh = cleaned.mesh
        if options.cap:
            mesh, facts["caps"] = cap(mesh, poses.support, margin, 1e-6 * side)
    else:
        cleaned = _clean(world, views, options, side, context)
        mesh = cleaned.mesh
    facts["components_removed"] = cleaned.components_removed
    facts["area_removed_share"] = cleaned.area_removed_share
    facts["back_share"] = cleaned.back_share
    return keep_faces(mesh, np.arange(len(mesh.faces))), facts


def _raw_surface(field: Field, level: float, poses: PoseSet, options: SurfaceOptions, context: Context) -> Mesh:
    """The field's surface in field coordinates, voids that no camera sees into filled. A coarse surface finds these."""
    first = extract(field, options.resolution // 2, level, options.smooth_cells / 2, context.check)
    if len(first.faces) == 0:
        return first
    context.progress(0.1, "what no camera sees", {})
    inverse = np.linalg.inv(np.array(poses.world_from_field))
    eyes = list(transform_points(inverse, np.array([image.centre for image in poses.images])))
    solid = hidden_cells(first, eyes, poses.world_from_field, poses.support, context.threads, context.check)

    def report(share: float) -> None:
        context.progress(0.1 + 0.3 * share, "surface of the field", {})

    return extract(field, options.resolution, level, options.smooth_cells, context.check, report, solid)


def _clean(world: Mesh, views: list[View], options: SurfaceOptions, side: float, context: Context) -> Cleaned:
    return clean(world, views, options.floater_share, MINIMUM_SIZE * side, context.threads, context.check)


def _world_box(poses: PoseSet, mesh: Mesh) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[2, 3] box of the region of interest in the world, with room for what edge collapses move."""
    corners = np.stack(np.meshgrid(*CUBE.T, indexing="ij"), -1).reshape(-1, 3)
    moved = transform_points(poses.world_from_field, corners)
    room = 0.01 * mesh.diagonal
    return np.stack([moved.min(0) - room, moved.max(0) + room])


def _bake(
    mesh: Mesh, atlas: Atlas, views: list[View], field: Field, poses: PoseSet, options: SurfaceOptions, context: Context
) -> Baked:
    def report(share: float) -> None:
        context.progress(0.65 + 0.3 * share, "texture", {})

    return bake(
        mesh,
        atlas,
        views,
        options.texture_size,
        lambda points, normals: field_colours(field, points, normals, poses.world_from_field, context.check),
        angle_power=options.angle_power,
        sharpness=options.blend_sharpness,
        equalise=options.equalise,
        threads=context.threads,
        check=context.check,
        progress=report,
    )


def _facts(full: Mesh, small: Mesh, atlas: Atlas, baked: Baked) -> dict[str, Any]:
    return {
        **statistics(small),
        "full_faces": len(full.faces),
        "full_vertices": len(full.vertices),
        "charts": atlas.charts,
        "texture_utilization": atlas.utilization,
        "photo_share": baked.photo_share,
        "exposure_spread": float(np.abs(baked.gains).max(initial=0.0)),
    }
