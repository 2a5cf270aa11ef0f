"""From committed stages to the manifest of a published asset. Pure: equal work gives equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from models.camera import PoseSet
from models.manifest import Manifest, PublishedFile, StageProvenance
from models.quality import worst
from models.results import STAGES, Done, FileRef
from models.version import software_version

MEDIA_TYPES = {
    ".glb": "model/gltf-binary",
    ".usdz": "model/vnd.usdz+zip",
    ".obj": "model/obj",
    ".mtl": "model/mtl",
    ".ply": "application/octet-stream",
    ".stl": "model/stl",
    ".png": "image/png",
}
"""Of the files of a model."""
OTHERS: dict[str, tuple[str, str, str]] = {
    # published name: (input, media type, role)
    "preview.jpg": ("quality", "image/jpeg", "preview"),
    "report.html": ("quality", "text/html", "report"),
    "quality.json": ("quality", "application/json", "metrics"),
    "poses.json": ("pose", "application/json", "cameras"),
}
"""What is published beside the model, when the stage made it. Photos are not: they belong to whoever took them."""
FULL_MESH = "mesh.ply"


def source_of(name: str) -> str:
    """The stage that made a published file."""
    return OTHERS[name][0] if name in OTHERS else "surface"


def published_files(dones: Mapping[str, Done]) -> tuple[tuple[str, FileRef, PublishedFile], ...]:
    """The files to publish as (input, committed file, entry of the manifest): the model's tiers, then the rest."""
    surface = dones["surface"]
    tiers: dict[str, dict[str, Any]] = surface.result.facts.get("tiers", {})
    tier_of = {name: tier for tier, row in tiers.items() for name in row["files"]}
    found = []
    for file in sorted(surface.files, key=lambda file: (not file.path.startswith("asset."), file.path)):
        media_type = MEDIA_TYPES.get(PurePosixPath(file.path).suffix)
        if media_type and (file.path.startswith("asset") or tier_of.get(file.path) == "full"):
            found.append(("surface", file, _entry(file, media_type, "model", tier_of.get(file.path))))
    for name, (source, media_type, role) in OTHERS.items():
        found += [
            (source, file, _entry(file, media_type, role, None)) for file in dones[source].files if file.path == name
        ]
    return tuple(found)


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
