"""Depth maps of all training photos, geometric rounds, fusion, and the files of the stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.artifacts import DENSE_FACTS_FILE, DENSE_FILE, DEPTH_FOLDER
from models.camera import PosedImage, PoseSet, transform_points
from models.digest import canonical_json
from models.errors import ReasonCode
from models.quality import Verdict
from models.results import Reason, StageResult
from tasks import stage_files
from tasks.context import Context
from tasks.dense.common_shape import common_shape, fill_gaps
from tasks.dense.masks import refine_masks
from tasks.dense.options import DenseOptions
from tasks.dense.workset import Workset
from tasks.stereo import estimate, kernel, views
from tasks.stereo.fusion import Fusion, FusionSettings, MapView, Points
from tasks.stereo.maps import DepthMap, depth_path, write_depth_map
from tasks.stereo.planar import planes_between
from tasks.stereo.views import Plan

FUSION_SHARE, SHAPE_SHARE = 0.1, 0.1
"""Of the progress."""


def make_dense(options: DenseOptions, context: Context) -> StageResult:
    """Run the stage."""
    if context.device == "cpu":
        kernel.require_library()
    poses = stage_files.read_poses(context)
    images = poses.of_split("train")
    plan = make_plan(poses, images, options, context)
    work = Workset(images, poses.world_from_field, options, context)
    rounds = 1 + options.geometric_rounds
    for round_ in range(rounds):
        work.maps(round_)
        planar = round_ > 0 and options.planar_weight > 0
        fusion = _fusion(plan, work, work.maps(round_ - 1), options) if planar else None
        for k in range(len(images)):
            context.check()
            if not work.restore(round_, k):
                work.keep(round_, k, _depth_map(round_, k, plan, work, fusion, options, context))
            done = (round_ + (k + 1) / len(images)) / rounds
            context.progress(
                (1 - FUSION_SHARE - SHAPE_SHARE) * done, f"depth of photo {k + 1} of {len(images)}", {"round": round_}
            )
    points, rows = _fuse(poses, plan, work, options, context)
    facts: dict[str, Any] = {"photos": len(images), "edge_px": options.edge_px, "points": len(points.xyz)}
    facts["covered"] = round(float(np.mean([row["agreed"] for row in rows])), 4) if rows else 0.0
    context.progress(1 - SHAPE_SHARE, "masks and gaps by depth", {})
    shape = common_shape(points, poses, context) if len(points.xyz) else None
    if shape is not None:
        facts |= {**refine_masks(shape, poses, context), "filled": fill_gaps(shape, images, context)}
    (context.output / DENSE_FACTS_FILE).write_bytes(canonical_json({**facts, "maps": rows}) + b"\n")
    if len(points.xyz) == 0:
        message = f"expected surface points on which {options.least_views + 1} photos agree, found none in the region"
        hint = "Photograph with more overlap and even light; surfaces of one plain colour cannot be measured by stereo."
        reason = Reason.of(ReasonCode.EMPTY_SURFACE, message, hint=hint)
        return StageResult(facts=facts, verdict=Verdict.REJECT, reasons=(reason,))
    _write_points(context.output / DENSE_FILE, points)
    return StageResult(facts=facts)


def make_plan(poses: PoseSet, images: tuple[PosedImage, ...], options: DenseOptions, context: Context) -> Plan:
    """What the training photos are compared with."""
    points = stage_files.read_points(context)
    visible = stage_files.read_visibility(context, len(poses.images))
    chosen = np.array([image.split == "train" for image in poses.images])
    seen = None if visible is None else visible[chosen]
    xyz = None if points is None else points["xyz"]
    return views.make_plan(images, poses.world_from_field, xyz, seen, options.views)


def _depth_map(
    round_: int, k: int, plan: Plan, work: Workset, fusion: Fusion | None, options: DenseOptions, context: Context
) -> DepthMap:
    """The map of one photo in one round; empty where it has no sources.

    Args:
        fusion: of the maps of the round before, which planes in plain parts are taken from; None for no planes.
    """
    camera, sources = work.cameras[k], plan.sources[k]
    if not sources:
        return DepthMap.empty(camera)
    settings = estimate.StereoSettings(
        iterations=options.iterations,
        worst_cost=1.0 - options.least_confidence,
        planar_weight=options.planar_weight,
    )
    photo, others = work.photo(k), [work.photo(j) for j in sources]
    seed = context.request.seed + 1000 * round_ + k
    if round_ == 0:
        return estimate.estimate(photo, others, settings, plan.ranges[k], seed, context.threads, context.device)
    before = work.maps(round_ - 1)
    theirs = [before(j) for j in sources]
    planes = None if fusion is None else planes_between(photo.levels[0], before(k), fusion.agreed(k))
    return estimate.refine(
        photo, others, settings, plan.ranges[k], before(k), theirs, seed, context.threads, planes, context.device
    )


def _fusion(plan: Plan, work: Workset, maps: Callable[[int], DepthMap], options: DenseOptions) -> Fusion:
    """What tells where depth maps of one round agree."""
    rows = zip(work.cameras, work.images, plan.sources, strict=True)
    map_views = [MapView(camera, image.c2w, sources) for camera, image, sources in rows]
    return Fusion(map_views, maps, FusionSettings(least_views=options.least_views))


def _fuse(
    poses: PoseSet, plan: Plan, work: Workset, options: DenseOptions, context: Context
) -> tuple[Points, list[dict[str, Any]]]:
    """The points inside the region, and facts about each map; writes the maps where others agree with them."""
    (context.output / DEPTH_FOLDER).mkdir(exist_ok=True)
    maps = work.maps(options.geometric_rounds)
    fusion = _fusion(plan, work, maps, options)
    field_from_world = np.linalg.inv(np.array(poses.world_from_field))
    parts, facts = [], []
    for k, image in enumerate(work.images):
        context.check()
        found, agreed = fusion.add(k, work.rgb(k))
        inside = np.asarray((np.abs(transform_points(field_from_world, found.xyz)) <= 1.0).all(1))
        parts.append(found.where(inside))
        write_depth_map(context.output / depth_path(image), maps(k).where(agreed))
        shares = {"filled": maps(k).depth > 0, "agreed": agreed}
        row: dict[str, Any] = {"name": image.name, "sources": [work.images[j].name for j in plan.sources[k]]}
        facts.append(row | {name: round(float(share.mean()), 4) for name, share in shares.items()})
        share = 1 - FUSION_SHARE - SHAPE_SHARE + FUSION_SHARE * (k + 1) / len(work.images)
        context.progress(share, f"fused photo {k + 1} of {len(work.images)}", {})
    return Points.joined(parts), facts


def _write_points(path: Path, points: Points) -> None:
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            xyz=points.xyz,
            normal=points.normal,
            rgb=points.rgb,
            views=points.views,
            confidence=points.confidence,
        )
