"""From committed stages to the manifest of a published asset. Equal work gives equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from models.artifacts import (
    COLMAP_FILES,
    E57_FILE,
    POINT_CLOUD_FILE,
    POSES_FILE,
    PREVIEW_FILE,
    QUALITY_FILE,
    REPORT_FILE,
    TRANSFORMS_FILE,
)
from models.camera import PoseSet
from models.digest import sha256_file
from models.manifest import Manifest, PublishedFile, StageProvenance
from models.results import Done, FileRef, RejectedChain
from models.stage import Stage
from models.verdict import Judgement
from models.version import software_version
from tasks import registry
from tasks.context import Context
from tasks.stage_files import source_of

OTHERS: dict[str, tuple[Stage, str, str]] = {
    # published name: (stage, media type, role)
    PREVIEW_FILE: (Stage.QUALITY, "image/jpeg", "preview"),
    QUALITY_FILE: (Stage.QUALITY, "application/json", "metrics"),
    POSES_FILE: (Stage.POSE, "application/json", "cameras"),
    TRANSFORMS_FILE: (Stage.POSE, "application/json", "cameras"),
    **dict.fromkeys(COLMAP_FILES, (Stage.POSE, "text/plain", "cameras")),
    POINT_CLOUD_FILE: (Stage.DENSE, "application/octet-stream", "points"),
    E57_FILE: (Stage.DENSE, "model/e57", "points"),
}
"""What is published beside the model, when the stage made it. Photos are not: they belong to whoever took them."""
_UNKNOWN_TYPE = "application/octet-stream"


def published_files(context: Context, surface: Done) -> tuple[tuple[str, FileRef, PublishedFile], ...]:
    """The files to publish as (input, committed file, entry of the manifest): the model's tiers, then the rest."""
    tiers: dict[str, dict[str, Any]] = surface.result.facts.get("tiers", {})
    types: dict[str, str] = surface.result.facts.get("media_types", {})
    tier_of = {name: tier for tier, row in tiers.items() for name in row["files"]}
    found = []
    for path in sorted(tier_of, key=lambda path: (not path.startswith("asset."), path)):
        media_type = types.get(PurePosixPath(path).suffix, _UNKNOWN_TYPE)
        found += _listed(context, Stage.SURFACE, path, media_type, "model", tier_of[path])
    for path, (stage, media_type, role) in OTHERS.items():
        found += _listed(context, stage, path, media_type, role, None)
    return tuple(found)


def _listed(
    context: Context, stage: Stage, path: str, media_type: str, role: str, tier: str | None
) -> list[tuple[str, FileRef, PublishedFile]]:
    source = source_of(context, stage, path)
    if source is None:
        return []
    file = next(file for file in context.input(source).files if file.path == path)
    return [(source, file, _entry(file, media_type, role, tier))]


def _entry(file: FileRef, media_type: str, role: str, tier: str | None) -> PublishedFile:
    return PublishedFile.model_validate(
        {
            "path": file.path,
            "sha256": file.sha256,
            "bytes": file.bytes,
            "media_type": media_type,
            "role": role,
            "tier": tier,
        }
    )


def report_entry(path: Path) -> PublishedFile:
    """The report that this stage wrote."""
    file = FileRef(path=REPORT_FILE, sha256=sha256_file(path), bytes=path.stat().st_size)
    return _entry(file, "text/html", "report", None)


def before(context: Context) -> list[Done]:
    """The commits of the stages before, in order."""
    return [context.done(name) for name in registry.stages() if name in context.request.inputs]


def build_manifest(
    context: Context,
    files: Iterable[PublishedFile],
    dones: Sequence[Done],
    judgement: Judgement,
    poses: PoseSet,
    rejected: tuple[RejectedChain, ...],
) -> Manifest:
    """The manifest of an asset from its committed stages and their judgement."""
    return Manifest(
        asset=context.request.asset,
        files=tuple(files),
        units=poses.units,
        scale_source=poses.scale_source,
        scale_uncertainty=poses.scale_uncertainty,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        gates=judgement.outcomes,
        metrics={metric.name: metric.value for done in dones for metric in done.result.metrics},
        provenance=tuple(
            StageProvenance(
                stage=done.stage, method=done.method, version=done.version, key=done.key, options=done.options
            )
            for done in dones
        ),
        rejected=rejected,
        software=f"asset-digitizer {software_version()}",
        seed=context.request.seed,
    )
