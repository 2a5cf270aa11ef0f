"""Committed stages as the export stage reads them: kept tiers of a textured body, cameras, points and a scale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from infra.storage import FolderStore
from models.camera import Plane, PoseSet
from models.digest import canonical_json
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from models.mesh.tier_files import write_tier
from models.results import StageRequest
from models.scale import POSES, MeasuredScale
from models.stage import Stage
from tasks import registry
from tasks.context import Context
from tasks.sample import scenes
from tasks.surface.unwrap import textured, unwrap
from tests.support import make_context, ref_of

SUPPORT = Plane(normal=(0.0, 0.0, 1.0), offset=0.5)
FACTOR = 0.25
METRIC = MeasuredScale(metres_per_unit=FACTOR, source="known_distance", uncertainty=0.004, residual_px=0.7)


def body(size: int = 64) -> Mesh:
    """A torus with all that a tier may hold, in the capture's own units."""
    shape = scenes.torus()
    unwrapped = textured(shape, unwrap(shape, size))
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    return replace(unwrapped, texture=maps[0], normal_map=maps[1], occlusion=maps[0, :, :, 0])


def write_stages(store: Path, scale: MeasuredScale, tiers: tuple[str, ...] = ("ar", "thumb", "full")) -> PoseSet:
    """The outputs of `pose`, `surface`, `dense` and `scale` below `store`; the first tier is the main one."""
    mesh = body()
    cameras = scenes.fibonacci_cameras(5, 48, 32, 4.0)
    poses = scenes.write_pose_outputs(store / "pose", scenes.paint(scenes.torus()), cameras, support=SUPPORT, points=40)
    if scale.source != POSES:
        poses = poses.model_copy(update={"units": "arbitrary", "scale_source": "none"})
        (store / "pose/poses.json").write_bytes(canonical_json(poses))
    for name in (each for each in tiers if each != "full"):
        write_tier(store / "surface/tiers", name, mesh)
    write_ply(store / "surface/mesh.ply", scenes.paint(scenes.torus()))
    facts = {"tiers": {name: {"faces": len(mesh.faces)} for name in tiers}, "main_tier": tiers[0]}
    (store / "surface/surface.json").write_text(json.dumps(facts))
    (store / "dense").mkdir()
    rng = np.random.default_rng(2)
    normal = rng.normal(size=(30, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rgb = rng.integers(0, 256, (30, 3), dtype=np.uint8)
    np.savez(store / "dense/dense.npz", xyz=rng.normal(size=(30, 3)), normal=normal, rgb=rgb)
    (store / "scale").mkdir()
    (store / "scale/scale.json").write_bytes(canonical_json(scale))
    return poses


def export_context(folder: Path, store: Path, dense: bool = True, **options: Any) -> Context:
    """A context for the export stage on what `write_stages` wrote."""
    chosen = registry.effective_options(Stage.EXPORT, "standard", "preview", options)
    names = ("pose", "surface", "scale", *(("dense",) if dense else ()))
    request = StageRequest(
        asset="ring",
        stage=Stage.EXPORT,
        method="standard",
        version="1",
        options=chosen.model_dump(mode="json"),
        inputs={name: ref_of(store / name, f"store:{name}") for name in names},
    )
    return make_context(request, folder, FolderStore(store))
