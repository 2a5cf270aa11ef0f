"""From committed stages to the manifest of a published asset. Pure: equal work gives equal bytes."""

from __future__ import annotations

from collections.abc import Mapping

from models.camera import PoseSet
from models.manifest import Manifest, PublishedFile, StageProvenance
from models.quality import worst
from models.results import STAGES, Done, FileRef
from models.version import software_version

ROLES: dict[str, tuple[str, str, str]] = {
    # published name: (input, media type, role)
    "asset.glb": ("surface", "model/gltf-binary", "model"),
    "asset.ply": ("surface", "application/octet-stream", "model"),
    "asset.obj": ("surface", "model/obj", "model"),
    "asset.mtl": ("surface", "model/mtl", "model"),
    "asset_color.png": ("surface", "image/png", "model"),
    "preview.jpg": ("quality", "image/jpeg", "preview"),
    "report.html": ("quality", "text/html", "report"),
    "quality.json": ("quality", "application/json", "metrics"),
    "poses.json": ("pose", "application/json", "cameras"),
}
"""What is published, when the stage made it. Photos are not: they belong to whoever took them."""


def published_files(dones: Mapping[str, Done]) -> tuple[tuple[str, FileRef, PublishedFile], ...]:
    """The files to publish as (input, committed file, entry of the manifest), in the order of `ROLES`."""
    found = []
    for name, (source, media_type, role) in ROLES.items():
        for file in dones[source].files:
            if file.path == name:
                entry = PublishedFile.model_validate(
                    {"path": name, "sha256": file.sha256, "bytes": file.bytes, "media_type": media_type, "role": role}
                )
                found.append((source, file, entry))
    return tuple(found)


def build_manifest(asset: str, seed: int, dones: Mapping[str, Done], poses: PoseSet) -> Manifest:
    """The manifest of an asset from its committed stages, by input name."""
    facts = dones["quality"].result.facts
    stages = [dones[stage] for stage in STAGES if stage in dones]
    return Manifest(
        asset=asset,
        files=tuple(entry for _, _, entry in published_files(dones)),
        units=poses.units,
        scale_source=poses.scale_source,
        scale_uncertainty=poses.scale_uncertainty,
        verdict=worst(done.result.verdict for done in stages),
        reasons=tuple(dict.fromkeys(reason for done in stages for reason in done.result.reasons)),
        metrics=dict(facts.get("metrics", {})),
        provenance=tuple(
            StageProvenance(
                stage=done.stage, method=done.method, version=done.version, key=done.key, options=done.options
            )
            for done in stages
        ),
        software=f"asset-digitizer {software_version()}",
        seed=seed,
    )
