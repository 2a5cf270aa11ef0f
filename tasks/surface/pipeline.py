"""The surface stage from the train stage's model to the files: the order of the steps, and what they report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from models.artifacts import ASSET_FILE, FULL_MESH_FILE, SURFACE_FILE, TIER_FOLDER
from models.camera import FloatArray, PoseSet, transform_points
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.mesh.gltf import write_glb
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from models.mesh.tier_files import write_tier
from models.quality import Verdict
from models.results import Reason, StageResult
from tasks.context import Context
from tasks.stage_files import fetch_picture, load_model, read_poses
from tasks.surface.bake import Baked
from tasks.surface.make_tiers import Finished, Work, coloured, finish
from tasks.surface.options import SurfaceOptions
from tasks.surface.shape import CUBE, Scene, Shape
from tasks.surface.tiers import planned
from tasks.surface.views import View


def make_surface(context: Context, options: SurfaceOptions, find_shape: Callable[[Scene], Shape]) -> StageResult:
    """All steps of one asset.

    Args:
        find_shape: makes the full mesh of what the train stage handed on; one for each kind.

    Raises DigitizeError when there is no usable surface.
    """
    torch.set_num_threads(max(1, context.threads))
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
    for item in done:
        context.check()
        write_tier(context.output / TIER_FOLDER, item.tier.name, item.mesh)
    write_glb(context.output / ASSET_FILE, done[0].mesh, poses.up)
    rows: dict[str, dict[str, Any]] = {item.tier.name: item.facts for item in done}
    if "full" in options.tiers:
        rows["full"] = {"faces": len(full.faces)}
    facts = {**shape.facts, **_facts(full, done[0], baked), "tiers": rows, "main_tier": tiers[0].name}
    (context.output / SURFACE_FILE).write_bytes(canonical_json(facts) + b"\n")
    reasons = (*shape.reasons, *_tangled(done))
    context.progress(1.0, "surface done", {"faces": len(done[0].mesh.faces)})
    return StageResult(facts=facts, verdict=Verdict.REVIEW if reasons else Verdict.ACCEPT, reasons=reasons)


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
