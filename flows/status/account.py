"""What is known about an asset after, or during, a run: where its results lie, and what was tried."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.status.files import is_lost, read_status
from models.artifacts import ASSET_FILE, DONE_FILE, MANIFEST_FILE, REPORT_FILE
from models.quality import Verdict
from models.results import Done
from models.spec_yaml import SpecFile
from models.stage import Stage
from models.status import AssetStatus, Phase, StageStatus
from models.store import Store
from tasks import registry


@dataclass(frozen=True)
class Places:
    """Where the results of an asset lie: paths of this machine, or `s3://` addresses. None where there are none."""

    model: str | None
    report: str | None
    published: tuple[str, ...]
    """The folder of the published version at each target that took it."""
    gone: tuple[str, ...] = ()
    """Those of them that are on this machine and hold no manifest any more: somebody removed them."""
    held: tuple[str, ...] = ()
    """Targets that did not take an asset marked for review."""


def phase_word(status: AssetStatus) -> str:
    """The phase, or `lost` for a run that stopped writing."""
    return "lost" if is_lost(status) else status.phase.value


def status_in(spec_file: SpecFile, store: Store, asset: str) -> AssetStatus:
    """The status of one asset of a specification. Raises DigitizeError(spec_invalid) where it has no such asset."""
    known = [each.id for each in spec_file.spec.assets]
    if asset not in known:
        raise spec_file.error(("assets",), f"expected one of {', '.join(known)}, found '{asset}'")
    return read_statuses(store, spec_file.spec.name, [asset])[0]


def read_statuses(store: Store, batch: str, assets: Iterable[str] | None = None) -> list[AssetStatus]:
    """The statuses of a batch: of the given assets (pending where there is none yet), or of all in the store."""
    if assets is None:
        prefix = f"status/{batch}/"
        names = [stat.key.removeprefix(prefix) for stat in store.list(prefix)]
        assets = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    found = [(asset, read_status(store, batch, asset)) for asset in assets]
    return [AssetStatus(batch=batch, asset=asset) if status is None else status for asset, status in found]


def stage_done(store: Store, status: AssetStatus, stage: Stage) -> Done | None:
    """The commit that a status names for a stage."""
    prefix = stage_prefix(status, stage)
    data = None if prefix is None else store.get_bytes(f"{prefix}/{DONE_FILE}")
    return None if data is None else Done.model_validate_json(data)


def stage_prefix(status: AssetStatus, stage: Stage) -> str | None:
    """Where a stage of an asset works inside the store."""
    key = status.stages.get(stage, StageStatus()).key
    return None if key is None else f"work/{status.asset}/{stage}/{key}"


def address(store: Store, key: str) -> str:
    """Where an object of the store lies, for people."""
    local = store.local_path(key)
    return f"{store.uri}/{key}" if local is None else str(local)


def find_places(store: Store, status: AssetStatus) -> Places:
    """Where the model and the report lie: the published ones, or those of the work store when none is published."""
    published = []
    receipts = status.stages.get(Stage.PUBLISH, StageStatus()).facts.get("receipts", ())
    for receipt in receipts:
        if receipt.get("published") and receipt.get("manifest"):
            published.append(f"{receipt['target'].rstrip('/')}/{receipt['manifest'].rpartition('/')[0]}")
    review = status.verdict is Verdict.REVIEW
    held = tuple(receipt["target"] for receipt in receipts if review and not receipt.get("published"))
    if published:
        gone = tuple(path for path in published if "://" not in path and not Path(path, MANIFEST_FILE).is_file())
        return Places(f"{published[0]}/{ASSET_FILE}", f"{published[0]}/{REPORT_FILE}", tuple(published), gone, held)
    model = _committed_file(store, status, Stage.EXPORT, ASSET_FILE)
    model = model or _committed_file(store, status, Stage.SURFACE, ASSET_FILE)
    return Places(model, _committed_file(store, status, Stage.PUBLISH, REPORT_FILE), (), held=held)


def _committed_file(store: Store, status: AssetStatus, stage: Stage, path: str) -> str | None:
    done = stage_done(store, status, stage)
    if done is None or not done.ref.has(path):
        return None
    return address(store, f"{done.ref.uri.removeprefix('store:')}/{path}")


@dataclass(frozen=True)
class Account:
    """The whole story of one asset."""

    status: AssetStatus
    dones: dict[Stage, Done]
    tried: dict[Stage, list[Any]]
    rejected_photos: list[dict[str, Any]]
    """`name`, `code`, `message` of each photo that was refused."""
    logs: dict[Stage, str]
    places: Places


def give_account(store: Store, status: AssetStatus) -> Account:
    """Collect everything the store knows about an asset."""
    found = {stage: stage_done(store, status, stage) for stage in registry.stages()}
    dones = {stage: done for stage, done in found.items() if done is not None}
    facts = {stage: status.stages.get(stage, StageStatus()).facts for stage in registry.stages()}
    facts |= {stage: done.result.facts for stage, done in dones.items()}
    logs = {}
    for stage in registry.stages():
        prefix = stage_prefix(status, stage)
        if prefix is not None and store.stat(f"{prefix}/log.txt") is not None:
            logs[stage] = address(store, f"{prefix}/log.txt")
    return Account(
        status=status,
        dones=dones,
        tried={stage: list(tried) for stage, each in facts.items() if isinstance(tried := each.get("tried"), list)},
        rejected_photos=_rejected_photos(store, dones.get(Stage.INGEST)),
        logs=logs,
        places=find_places(store, status),
    )


def _rejected_photos(store: Store, ingest: Done | None) -> list[dict[str, Any]]:
    if ingest is None:
        return []
    data = store.get_bytes(f"{ingest.ref.uri.removeprefix('store:')}/photos.json")
    if data is None:
        return []
    rejected = json.loads(data).get("rejected", [])
    return [{key: photo.get(key) for key in ("name", "code", "message")} for photo in rejected]


def remedy(status: AssetStatus, spec: str) -> str:
    """The command that goes on with an asset, once what is wrong is corrected; empty when nothing is left to do."""
    moving = status.phase is Phase.RUNNING and not is_lost(status)
    return "" if moving or status.phase is Phase.DONE else f"digitize run {spec} --asset {status.asset}"
