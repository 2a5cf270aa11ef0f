"""From committed stages to the manifest of a published asset. Equal work gives equal bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
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
from models.manifest import Manifest, PublishedFile, StageProvenance
from models.quality import worst
from models.results import Done, FileRef, RejectedChain
from models.stage import Stage
from models.version import software_version
from tasks import registry
from tasks.context import Context
from tasks.stage_files import source_of

OTHERS: dict[str, tuple[Stage, str, str]] = {
    # published name: (stage, media type, role)
    PREVIEW_FILE: (Stage.QUALITY, "image/jpeg", "preview"),
    REPORT_FILE: (Stage.QUALITY, "text/html", "report"),
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


def build_manifest(
    context: Context, files: Iterable[PublishedFile], poses: PoseSet, rejected: tuple[RejectedChain, ...]
) -> Manifest:
    """The manifest of an asset from its committed stages."""
    stages = [context.done(name) for name in registry.stages() if name in context.request.inputs]
    quality = next((done for done in stages if done.stage is Stage.QUALITY), None)
    return Manifest(
        asset=context.request.asset,
        files=tuple(files),
        units=poses.units,
        scale_source=poses.scale_source,
        scale_uncertainty=poses.scale_uncertainty,
        verdict=worst(done.result.verdict for done in stages),
        reasons=tuple(dict.fromkeys(reason for done in stages for reason in done.result.reasons)),
        metrics=dict(quality.result.facts.get("metrics", {})) if quality is not None else {},
        provenance=tuple(
            StageProvenance(
                stage=done.stage, method=done.method, version=done.version, key=done.key, options=done.options
            )
            for done in stages
        ),
        rejected=rejected,
        software=f"asset-digitizer {software_version()}",
        seed=context.request.seed,
    )
