"""Publish to folders and buckets as `assets/<asset>/v<N>/...`; `latest.json` names the version in force.

The order makes every kill and every race harmless: `claim.json`, created only if absent, reserves a version for one
manifest's digest; then the files, then `manifest.json`, then `latest.json` by a conditional write. A version without
a manifest was never published: equal work goes on with it, other work takes the next number. Publishing equal work
again finds its manifest in force and changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from models.artifacts import FIGURES_FILE, MANIFEST_FILE, QUALITY_FILE, RECEIPTS_FILE, REPORT_FILE
from models.digest import canonical_json, sha256_bytes
from models.errors import DigitizeError, ReasonCode
from models.ladder import SteppedDown
from models.manifest import Latest, Manifest, withdrawn_key
from models.quality import DEFAULT_GATES, Gate, Verdict
from models.record import Record
from models.resources import Estimate, Resources
from models.results import Done, RejectedChain, StageResult
from models.spec import PublishTarget
from models.stage import Stage
from models.store import Store

if TYPE_CHECKING:
    from models.scale import MeasuredScale
    from models.verdict import Judgement
    from tasks.context import Context

VERSION = "4"
FILLED_IN = ("rejected", "stepped_down")
PRESETS: dict[str, dict[str, object]] = {"preview": {}, "standard": {}, "high": {}}

_RACES = 20


class Options(Record):
    """Options of `versioned`."""

    targets: tuple[PublishTarget, ...] = ()
    """Where to publish; filled in from the specification's `publish`."""
    gates: tuple[Gate, ...] = DEFAULT_GATES
    """Bounds on metrics and what follows when one is missed; filled in from the specification's `gates`."""
    rejected: tuple[RejectedChain, ...] = ()
    """Methods that were tried before; the flow fills it in, the manifest tells."""
    stepped_down: dict[Stage, SteppedDown] = Field(default_factory=dict)
    """Stages that ran with smaller settings than asked for; the flow fills it in, the report shows it."""


def resources(options: Options) -> Resources:
    """Publishing moves files: one core, little memory."""
    return Resources(cpus=1, memory_gb=0.5, scratch_gb=0.5, timeout_s=900)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Seconds to copy and verify some tens of megabytes to each target."""
    return Estimate(seconds=1.0 + 2.0 * len(options.targets), memory_gb=0.2)


class Receipt(Record):
    """What one target holds after publishing. File: `receipts.json`."""

    target: str
    published: bool
    """False when the verdict is below the target's minimum, or the asset was withdrawn there."""
    version: int | None = None
    manifest: str | None = None
    manifest_sha256: str | None = None


class Receipts(Record):
    """One receipt a target."""

    receipts: tuple[Receipt, ...]


def publish(context: Context, options: Options) -> StageResult:
    """Judge the asset, write its report, publish to every target whose least verdict it reaches, and check what was
    written there.

    Raises DigitizeError(publish_conflict) when other runs keep swapping `latest.json`, and
    DigitizeError(checksum_mismatch) when a target holds other bytes than were sent.
    """
    from models.verdict import judge
    from tasks.publish.manifest import before, build_manifest, published_files, report_entry
    from tasks.stage_files import read_scale

    dones, scale = before(context), read_scale(context)
    judgement = judge([done.result for done in dones], options.gates)
    _write_report(context, options, judgement, dones, scale)
    found = published_files(context)
    files = [*(entry for _, _, entry in found), report_entry(context.output / REPORT_FILE)]
    manifest = build_manifest(context, files, dones, judgement, scale, options.rejected)
    sources = {entry.path: source for source, _, entry in found}
    receipts = []
    for index, target in enumerate(options.targets):
        context.check()
        context.progress(index / len(options.targets), f"to {target.to}", {})
        store = context.open_store(target.to)
        withdrawn = store.stat(withdrawn_key(manifest.asset)) is not None
        if withdrawn or manifest.verdict.severity > Verdict(target.minimum_verdict).severity:
            receipts.append(Receipt(target=target.to, published=False))
        else:
            receipts.append(publish_to(store, manifest, sources, context))
    record = Receipts(receipts=tuple(receipts))
    (context.output / RECEIPTS_FILE).write_bytes(canonical_json(record))
    (context.output / MANIFEST_FILE).write_bytes(canonical_json(manifest))
    return StageResult(facts={**record.model_dump(mode="json"), "verdict": manifest.verdict.value})


def _write_report(
    context: Context, options: Options, judgement: Judgement, dones: Sequence[Done], scale: MeasuredScale
) -> None:
    from tasks.publish.report import render_report

    page = context.fetch(str(Stage.QUALITY), FIGURES_FILE).read_text(encoding="utf-8")
    figures = json.loads(context.fetch(str(Stage.QUALITY), QUALITY_FILE).read_bytes())
    report = render_report(page, judgement, dones, scale, figures["mesh"]["extent"], options.stepped_down)
    (context.output / REPORT_FILE).write_text(report, encoding="utf-8")


def publish_to(store: Store, manifest: Manifest, sources: Mapping[str, str], context: Context) -> Receipt:
    """Make `manifest` the current version at one target.

    Args:
        sources: the input that each file comes from; the stage's own are left out.
    """
    data = canonical_json(manifest)
    digest = sha256_bytes(data)
    latest_key = f"assets/{manifest.asset}/latest.json"
    for _ in range(_RACES):
        context.check()
        before = store.stat(latest_key)
        latest = None if before is None else Latest.model_validate_json(store.get_bytes(latest_key) or b"{}")
        if latest is not None and latest.manifest_sha256 == digest:
            return _receipt(store, latest)
        version = _write_version(store, manifest, sources, data, 1 if latest is None else latest.version + 1, context)
        swapped = Latest(
            asset=manifest.asset,
            version=version,
            manifest=f"assets/{manifest.asset}/v{version}/{MANIFEST_FILE}",
            manifest_sha256=digest,
            verdict=manifest.verdict,
        )
        body = canonical_json(swapped)
        if before is None:
            done = store.put_bytes(latest_key, body, if_absent=True)
        else:
            done = store.put_bytes(latest_key, body, if_match=before.etag)
        if done:
            return _receipt(store, swapped)
        time.sleep(0.05)
    raise DigitizeError(
        ReasonCode.PUBLISH_CONFLICT,
        f"other runs changed latest.json {_RACES} times in a row",
        retryable=True,
        asset=manifest.asset,
        path=f"{store.uri}/{latest_key}",
    )


def _receipt(store: Store, latest: Latest) -> Receipt:
    return Receipt(
        target=store.uri,
        published=True,
        version=latest.version,
        manifest=latest.manifest,
        manifest_sha256=latest.manifest_sha256,
    )


def _write_version(
    store: Store, manifest: Manifest, sources: Mapping[str, str], data: bytes, first: int, context: Context
) -> int:
    """Write files and manifest under the first version from `first` on that is free or reserved for this manifest."""
    claim = canonical_json({"manifest_sha256": sha256_bytes(data)})
    version = first
    while True:
        prefix = f"assets/{manifest.asset}/v{version}"
        if store.put_bytes(f"{prefix}/claim.json", claim, if_absent=True) or (
            store.get_bytes(f"{prefix}/claim.json") == claim
        ):
            break
        version += 1
    if store.get_bytes(f"{prefix}/{MANIFEST_FILE}") != data:
        _upload(store, prefix, manifest, sources, context)
        store.put_bytes(f"{prefix}/{MANIFEST_FILE}", data)
    return version


def _upload(store: Store, prefix: str, manifest: Manifest, sources: Mapping[str, str], context: Context) -> None:
    """Send the files and read them back: no server is trusted to have checked them."""
    from tasks.publish.transfer import Upload, send, stored_digests

    uploads = []
    for file in manifest.files:
        own = file.path not in sources
        path = context.output / file.path if own else context.fetch(sources[file.path], file.path)
        uploads.append(Upload(f"{prefix}/{file.path}", path, file.sha256))
    send(store, uploads, context.check)
    digests = stored_digests(store, [upload.key for upload in uploads], context.check)
    for upload, digest in zip(uploads, digests, strict=True):
        if digest != upload.sha256:
            raise DigitizeError(
                ReasonCode.CHECKSUM_MISMATCH,
                f"expected sha256 {upload.sha256}, found other bytes",
                retryable=True,
                asset=manifest.asset,
                path=f"{store.uri}/{upload.key}",
            )
