"""What a published asset is. Manifests hold no times, hosts or run ids, so equal work gives equal bytes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from models.quality import GateOutcome, Verdict
from models.record import Record
from models.results import Reason, RejectedChain


class PublishedFile(Record):
    """One file of a published version."""

    path: str
    sha256: str
    bytes: int = Field(ge=0)
    media_type: str
    role: Literal["model", "preview", "report", "metrics", "cameras", "points", "other"]
    tier: str | None = None
    """Which size of the model it is or belongs to; `asset.*` is the main one."""


class StageProvenance(Record):
    """How one stage was done: enough to do it again."""

    stage: str
    method: str
    version: str
    key: str
    options: dict[str, Any]


class Manifest(Record):
    """`manifest.json`, written last: a version without one was never published."""

    schema_version: Literal[1] = 1
    asset: str
    files: tuple[PublishedFile, ...]
    units: Literal["metre", "arbitrary"]
    up_axis: Literal["Y"] = "Y"
    """Of GLB and USDZ. STL has Z up, as slicers do; PLY and OBJ keep the capture's axes."""
    origin: Literal["capture"] = "capture"
    """No file is moved: cameras in `poses.json` and every format share one origin."""
    scale_source: str
    scale_uncertainty: float | None
    verdict: Verdict
    reasons: tuple[Reason, ...]
    gates: tuple[GateOutcome, ...] = ()
    """The bounds that led to the verdict, with what was measured."""
    metrics: dict[str, float]
    provenance: tuple[StageProvenance, ...]
    rejected: tuple[RejectedChain, ...] = ()
    """The methods that were tried before those in `provenance`, and why their results were rejected."""
    software: str
    """Name and version of this program."""
    seed: int


class Latest(Record):
    """`latest.json`: the version in force, swapped by a conditional write."""

    asset: str
    version: int = Field(ge=1)
    manifest: str
    """Path of the manifest from the target's root."""
    manifest_sha256: str
    verdict: Verdict


def latest_key(asset: str) -> str:
    """Where a target names an asset's version in force."""
    return f"assets/{asset}/latest.json"


def is_latest_key(key: str) -> bool:
    """Whether an object of a target is such a name; its second part is the asset."""
    return key.count("/") == 2 and key.startswith("assets/") and key.endswith("/latest.json")


class Withdrawn(Record):
    """`withdrawn.json`: nothing publishes this asset here until somebody rolls back to one of its versions."""

    asset: str
    why: str


def withdrawn_key(asset: str) -> str:
    """Where a target says that an asset was withdrawn."""
    return f"assets/{asset}/withdrawn.json"
