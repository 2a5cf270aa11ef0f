"""The surface stage from the train stage's model to the files: the order of the steps, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from models.artifacts import FULL_MESH_FILE, SURFACE_FILE
from models.camera import FloatArray, PoseSet, transform_points
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from models.quality import Verdict
from models.results import Reason, StageResult
from tasks.context import Context
from tasks.stage_files import fetch_picture, load_model, read_poses
from tasks.surface import exporters
from tasks.surface.bake import Baked
from tasks.surface.exporters import ply
from tasks.surface.make_tiers import Finished, Work, coloured, finish
from tasks.surface.options import SurfaceOptions
from tasks.surface.shape import CUBE, Scene, Shape
from tasks.surface.tiers import Tier, file_stem, planned
from tasks.surface.views import View


def make_surface(context: Context, options: SurfaceOptions, find_shape: Callable[[Scene], Shape]) -> StageResult:
    """All steps of one asset.

    Args:
        find_shape: makes the full mesh of what the train stage handed on; one for each kind.

    Raises DigitizeError when there is no usable surface.
    """
    torch.set_num_threads(max(1, context.threads))
    formats = [exporters.load(name) for name in options.formats]  # before minutes are spent on the rest
    poses = read_poses(context)
    views = [View(image, lambda path: fetch_picture(context, path)) for image in poses.of_split("train")]
    if not views:
        raise DigitizeError(ReasonCode.POSES_INVALID, "expected training images in poses.json, found none")
    model = load_model(context)
    shape = find_shape(Scene(model, poses, views))
    work = Work(
        full=shape.mesh,
        views=views,
        fill=lambda points, normals: model.colours(points, normals, poses.world_from_field, context.check),
        box=_world_box(poses, shape.mesh),
        options=options,
        threads=context.threads,
        check=context.check,
    )
    tiers = planned(options.tiers, options.faces, options.texture_size)
    done, baked = finish(work, tiers, lambda share, what: context.progress(0.5 + 0.35 * share, what, {}))
    full = coloured(shape.mesh, done[0].mesh, context.threads, context.check)
    write_ply(context.output / FULL_MESH_FILE, full)
    context.progress(0.9, "files", {"tiers": len(tiers)})
    rows: dict[str, dict[str, Any]] = {
        item.tier.name: {**item.facts, "files": export_tier(item, tiers[0], formats, poses, context)} for item in done
    }
    if "full" in options.tiers:
        size = (context.output / FULL_MESH_FILE).stat().st_size
        rows["full"] = {"faces": len(full.faces), "files": {FULL_MESH_FILE: size}}
    media_types = {suffix: kind for module in (ply, *formats) for suffix, kind in module.MEDIA_TYPES.items()}
    facts = {**shape.facts, **_facts(full, done[0], baked), "tiers": rows, "media_types": media_types}
    (context.output / SURFACE_FILE).write_bytes(canonical_json({**facts, "units": poses.units}) + b"\n")
    reasons = (*shape.reasons, *_tangled(done))
    context.progress(1.0, "surface done", {"faces": len(done[0].mesh.faces)})
    return StageResult(facts=facts, verdict=Verdict.REVIEW if reasons else Verdict.ACCEPT, reasons=reasons)


def export_tier(item: Finished, main: Tier, formats: Sequence[Any], poses: PoseSet, context: Context) -> dict[str, int]:
    """Write a tier in every format; sizes in bytes by file name."""
    stem = file_stem(item.tier, main)
    before = {path.name for path in context.output.iterdir()}
    for exporter in formats:
        context.check()
        exporter.write(context.output / f"{stem}{exporter.SUFFIX}", item.mesh, poses.up)
    return {path.name: path.stat().st_size for path in sorted(context.output.iterdir()) if path.name not in before}


def _tangled(done: list[Finished]) -> list[Reason]:
    """A reason for each tier whose faces still pass through each other."""
    return [
        Reason.of(
            ReasonCode.MESH_DEFECT,
            f"expected no face of tier '{item.tier.name}' to pass through another, "
            f"found {item.facts['self_intersections']} that do after repair",
        )
        for item in done
        if item.facts["self_intersections"]
    ]


def _world_box(poses: PoseSet, mesh: Mesh) -> FloatArray:
    """[2, 3] box of the region of interest in the world, with room for what repair moves."""
    corners = np.stack(np.meshgrid(*CUBE.T, indexing="ij"), -1).reshape(-1, 3)
    moved = transform_points(poses.world_from_field, corners)
    room = 0.01 * mesh.diagonal
    return np.stack([moved.min(0) - room, moved.max(0) + room])


def _facts(full: Mesh, main: Finished, baked: Baked) -> dict[str, Any]:
    """What is said of the asset as a whole: its main tier, the full mesh, the colours."""
    return {
        **main.facts,
        "full_faces": len(full.faces),
        "full_vertices": len(full.vertices),
        "photo_share": baked.photo_share,
        "baked_size": baked.baked_size,
        "exposure_spread": float(np.abs(baked.gains).max(initial=0.0)),
    }
