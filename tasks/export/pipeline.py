"""The export stage from the kept tiers to the published files, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from models.artifacts import (
    COLMAP_FILES,
    DENSE_FILE,
    E57_FILE,
    EXPORT_FILE,
    FULL_MESH_FILE,
    POINT_CLOUD_FILE,
    POSES_FILE,
    SURFACE_FILE,
    TIER_FOLDER,
    TRANSFORMS_FILE,
)
from models.camera import PoseSet
from models.digest import canonical_json
from models.exports import ExportedFile, ExportIndex
from models.mesh.e57 import write_e57
from models.mesh.io import read_ply, write_ply, write_point_cloud
from models.mesh.mesh import Mesh
from models.mesh.tier_files import read_tier, tier_files
from models.results import StageResult
from models.scale import MeasuredScale
from models.stage import Stage
from tasks.context import Context
from tasks.export import exporters
from tasks.export.camera_files import write_archive
from tasks.export.exporters import ply
from tasks.export.options import ExportOptions
from tasks.export.units import scaled_mesh, scaled_points, scaled_poses
from tasks.stage_files import fetch, read_facts, read_poses, read_scale, read_sparse, source_of

UNKNOWN_TYPE = "application/octet-stream"
FULL = "full"
"""The tier that is the whole mesh, without maps."""
POINT_FILES = {POINT_CLOUD_FILE: UNKNOWN_TYPE, E57_FILE: "model/e57"}
CAMERA_FILES = {
    POSES_FILE: "application/json",
    TRANSFORMS_FILE: "application/json",
    **dict.fromkeys(COLMAP_FILES, "text/plain"),
}


@dataclass(frozen=True)
class _Work:
    """What every step reads."""

    context: Context
    options: ExportOptions
    writers: Sequence[ModuleType]
    poses: PoseSet
    """In published units."""
    scale: MeasuredScale

    @property
    def output(self) -> Path:
        return self.context.output


def export_asset(context: Context, options: ExportOptions) -> StageResult:
    """All files of one asset, in metres where the scale is known.

    Raises DigitizeError(missing_dependency) where a format's package is not installed here.
    """
    writers = [exporters.load(name) for name in options.formats]  # before anything is written
    scale = read_scale(context)
    work = _Work(context, options, writers, scaled_poses(read_poses(context), scale), scale)
    files = _write_tiers(work)
    context.progress(0.8, "points and cameras", {})
    files += _write_points(work)
    files += _write_cameras(work)
    index = ExportIndex(units=scale.units, files=tuple(files))
    (context.output / EXPORT_FILE).write_bytes(canonical_json(index) + b"\n")
    context.progress(1.0, "exported", {"files": len(files)})
    return StageResult(facts=_facts(index))


def _write_tiers(work: _Work) -> list[ExportedFile]:
    """Every tier in every format, the main tier first."""
    surface = read_facts(work.context, Stage.SURFACE, SURFACE_FILE)
    main: str = surface["main_tier"]
    names = sorted(surface["tiers"], key=lambda name: (name != main, name))
    files: list[ExportedFile] = []
    for number, name in enumerate(names):
        work.context.progress(0.8 * number / len(names), f"tier {name}", {})
        if name == FULL:
            mesh = read_ply(fetch(work.context, Stage.SURFACE, FULL_MESH_FILE))
            write_ply(work.output / FULL_MESH_FILE, scaled_mesh(mesh, work.scale))
            written = [work.output / FULL_MESH_FILE]
        else:
            stem = "asset" if name == main else f"asset-{name}"
            written = _write_formats(scaled_mesh(_kept_tier(work.context, name), work.scale), stem, work)
        types = {suffix: kind for module in (ply, *work.writers) for suffix, kind in module.MEDIA_TYPES.items()}
        files += [_entry(work, path, "model", types.get(path.suffix, UNKNOWN_TYPE), name) for path in written]
    return files


def _kept_tier(context: Context, name: str) -> Mesh:
    paths = {file: f"{TIER_FOLDER}/{file}" for file in tier_files(name)}
    found = {file: path for file, path in paths.items() if source_of(context, Stage.SURFACE, path) is not None}
    return read_tier({file: fetch(context, Stage.SURFACE, path) for file, path in found.items()}, name)


def _write_formats(mesh: Mesh, stem: str, work: _Work) -> list[Path]:
    """A tier in every format; the files that were written."""
    before = set(work.output.iterdir())
    for writer in work.writers:
        work.context.check()
        writer.write(work.output / f"{stem}{writer.SUFFIX}", mesh, work.poses.up)
    return sorted(set(work.output.iterdir()) - before)


def _write_points(work: _Work) -> list[ExportedFile]:
    """The points of dense stereo in the formats asked for; none where it did not run."""
    if not work.options.points or source_of(work.context, Stage.DENSE, DENSE_FILE) is None:
        return []
    with np.load(fetch(work.context, Stage.DENSE, DENSE_FILE)) as data:
        xyz, normal, rgb = data["xyz"] * work.scale.factor, data["normal"], data["rgb"]
    if "ply" in work.options.points:
        write_point_cloud(work.output / POINT_CLOUD_FILE, xyz, normal, rgb)
    if "e57" in work.options.points:
        up = ", ".join(f"{each:.6g}" for each in work.poses.up)
        about = f"Dense stereo from {len(work.poses.images)} photos. Unit: {work.scale.units}. Up: ({up})."
        write_e57(work.output / E57_FILE, xyz, normal, rgb, work.context.request.asset, about)
    return _listed(work, POINT_FILES, "points")


def _write_cameras(work: _Work) -> list[ExportedFile]:
    """The cameras as this project's `poses.json`, and as other programs read them."""
    (work.output / POSES_FILE).write_bytes(canonical_json(work.poses))
    points = read_sparse(work.context)
    write_archive(work.output, work.poses, None if points is None else scaled_points(points, work.scale))
    return _listed(work, CAMERA_FILES, "cameras")


def _listed(work: _Work, types: dict[str, str], role: Literal["points", "cameras"]) -> list[ExportedFile]:
    found = {work.output / path: kind for path, kind in types.items() if (work.output / path).is_file()}
    return [_entry(work, path, role, kind) for path, kind in found.items()]


def _entry(
    work: _Work, path: Path, role: Literal["model", "points", "cameras"], media_type: str, tier: str | None = None
) -> ExportedFile:
    name = path.relative_to(work.output).as_posix()
    return ExportedFile(path=name, role=role, media_type=media_type, tier=tier, bytes=path.stat().st_size)


def _facts(index: ExportIndex) -> dict[str, Any]:
    """The unit, and what each tier and role came to in bytes."""
    sizes: dict[str, dict[str, int]] = {}
    for file in index.files:
        sizes.setdefault(file.tier or file.role, {})[file.path] = file.bytes
    return {"units": index.units, "files": sizes}
