"""The surface stage from the field to the files: the order of the steps, what they report, and the fallbacks."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.camera import PoseSet, transform_points
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.fields import load_field
from models.fields.base import Field
from models.quality import Verdict
from models.results import StageResult
from tasks.context import Context
from tasks.mesh.io import write_ply
from tasks.mesh.mesh import Mesh
from tasks.surface.bake import Baked, bake
from tasks.surface.base import SurfaceOptions
from tasks.surface.checks import check_surface, statistics
from tasks.surface.colour import field_colours
from tasks.surface.decimate import decimate
from tasks.surface.shape import CUBE, find_shape
from tasks.surface.topology import vertex_normals
from tasks.surface.unwrap import Atlas, textured, unwrap
from tasks.surface.views import View


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
