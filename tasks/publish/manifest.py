"""From committed stages to the manifest of a published asset. Equal work gives equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from models.artifacts import PREVIEW_FILE, QUALITY_FILE, REPORT_FILE
from models.digest import sha256_file
from models.manifest import Manifest, PublishedFile, StageProvenance
from models.results import Done, FileRef, RejectedChain
from models.scale import MeasuredScale
from models.stage import Stage
from models.verdict import Judgement
from models.version import software_version
from tasks import registry
from tasks.context import Context
from tasks.stage_files import read_exports, source_of

OTHERS: dict[str, tuple[Stage, str, str]] = {
    # published name: (stage, media type, role)
    PREVIEW_FILE: (Stage.QUALITY, "image/jpeg", "preview"),
    QUALITY_FILE: (Stage.QUALITY, "application/json", "metrics"),
}
"""What is published beside the files of the export stage. Photos are not: they belong to whoever took them."""


def published_files(context: Context) -> tuple[tuple[str, FileRef, PublishedFile], ...]:
    """The files to publish as (input, committed file, entry of the manifest): those of the export stage, its main
    tier's first, then the rest."""
    found = []
    for each in read_exports(context).files:
        found += _listed(context, Stage.EXPORT, each.path, each.media_type, each.role, each.tier)
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
    scale: MeasuredScale,
    rejected: tuple[RejectedChain, ...],
) -> Manifest:
    """The manifest of an asset from its committed stages and their judgement."""
    return Manifest(
        asset=context.request.asset,
        files=tuple(files),
        units=scale.units,
        scale_source=scale.source,
        scale_uncertainty=scale.uncertainty,
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
