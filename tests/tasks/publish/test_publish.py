"""Publishing: versions, order, races, kills, idempotence; on a folder and over HTTP."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from infra.storage import open_store
from models.digest import canonical_json, sha256_bytes
from models.errors import DigitizeError, ReasonCode
from models.exports import ExportedFile, ExportIndex
from models.manifest import Latest, Manifest
from models.quality import Metric, Verdict
from models.results import Done, Reason, StageRequest, StageResult
from models.scale import MeasuredScale
from models.spec import PublishTarget
from models.stage import Stage
from models.store import Store
from tasks.commit import run_stage
from tasks.context import Context
from tasks.publish import task
from tasks.publish.manifest import published_files
from tasks.report_page import SLOTS, slot
from tests.support import make_context

SCALE = MeasuredScale(metres_per_unit=0.2, source="known_distance", uncertainty=0.01)
BINARY = "application/octet-stream"
ENTRIES: dict[str, dict[str, str]] = {
    "asset.glb": {"role": "model", "tier": "high", "media_type": "model/gltf-binary"},
    "asset.ply": {"role": "model", "tier": "high", "media_type": BINARY},
    "asset-thumb.usdz": {"role": "model", "tier": "thumb", "media_type": "model/vnd.usdz+zip"},
    "mesh.ply": {"role": "model", "tier": "full", "media_type": BINARY},
    "points.ply": {"role": "points", "media_type": BINARY},
    "points.e57": {"role": "points", "media_type": "model/e57"},
    "poses.json": {"role": "cameras", "media_type": "application/json"},
    "transforms.json": {"role": "cameras", "media_type": "application/json"},
    "colmap/images.txt": {"role": "cameras", "media_type": "text/plain"},
}
"""What the export stage says of its files."""


def commit_inputs(
    folder: Path, store: Store, glb: bytes, verdict: Verdict = Verdict.ACCEPT, full: bool = False
) -> dict[str, Done]:
    """Committed stages with just the files that publishing reads."""
    contents: dict[Stage, dict[str, bytes]] = {
        Stage.INGEST: {"photos.json": b"{}"},
        Stage.POSE: {"poses.json": b"not published", "points.npz": b"not published"},
        Stage.TRAIN: {"model/field.json": b"{}"},
        Stage.SURFACE: {"asset.glb": b"not published", "tiers/high.npz": b"not published"},
        Stage.SCALE: {"scale.json": canonical_json(SCALE)},
        Stage.EXPORT: {
            "asset.glb": glb,
            "asset.ply": b"ply",
            "asset-thumb.usdz": b"usdz",
            "asset.notes": b"not published",
            "poses.json": b"poses",
            "transforms.json": b"{}",
            "colmap/images.txt": b"1",
        },
        Stage.QUALITY: {
            "figures.html": "\n".join(map(slot, SLOTS)).encode(),
            "quality.json": b'{"mesh": {"extent": [0.1, 0.2, 0.3]}}',
            "preview.jpg": b"jpg",
        },
    }
    if full:
        contents[Stage.DENSE] = {"dense.npz": b"not published"}
        contents[Stage.EXPORT] |= {"mesh.ply": b"the whole mesh", "points.ply": b"ply", "points.e57": b"e57"}
    exported = tuple(
        ExportedFile.model_validate({"path": path, "bytes": len(data), **ENTRIES[path]})
        for path, data in contents[Stage.EXPORT].items()
        if path in ENTRIES
    )
    contents[Stage.EXPORT]["export.json"] = canonical_json(ExportIndex(units=SCALE.units, files=exported))
    dones = {}
    for stage, files in contents.items():

        def door(request: StageRequest, context: Context, files: dict[str, bytes] = files) -> StageResult:
            for name, data in files.items():
                (context.output / name).parent.mkdir(exist_ok=True)
                (context.output / name).write_bytes(data)
            rejected = (Reason.of(ReasonCode.LOW_FIDELITY, "planted"),) if verdict is not Verdict.ACCEPT else ()
            own = request.stage is Stage.QUALITY
            facts: dict[str, Any] = {}
            return StageResult(
                facts=facts,
                metrics=(Metric(name="psnr_mesh", value=21.5, unit="dB"),) if own else (),
                verdict=verdict if own else Verdict.ACCEPT,
                reasons=rejected if own else (),
            )

        request = StageRequest(asset="pot", stage=stage, method="m", version="1", options={"glb": sha256_bytes(glb)})
        request = request.model_copy(update={"options": {**request.options, "verdict": verdict.value}})
        dones[str(stage)] = run_stage(
            door, request, make_context(request, folder / sha256_bytes(glb)[:8] / stage, store)
        )
    return dones


def publish_context(
    folder: Path, store: Store, dones: dict[str, Done], to: str, gates: tuple[Any, ...] = (), **target: Any
) -> Context:
    request = StageRequest(
        asset="pot",
        stage=Stage.PUBLISH,
        method="versioned",
        version="1",
        options={"targets": [{"to": to, **target}], "gates": gates},
        inputs={name: done.ref for name, done in dones.items()},
    )
    return make_context(request, folder, store)


@pytest.fixture(params=["folder", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "published")
    return str(request.getfixturevalue("s3_bucket")) + "/museum"


def snapshot(uri: str) -> dict[str, bytes | None]:
    store = open_store(uri)
    return {stat.key: store.get_bytes(stat.key) for stat in store.list("")}


def test_publish_then_again_changes_nothing(tmp_path: Path, target: str) -> None:
    store = open_store(str(tmp_path / "store"))
    dones = commit_inputs(tmp_path, store, b"glb one")
    result = task.run(*_args(publish_context(tmp_path / "p1", store, dones, target)))
    assert result.facts["receipts"][0]["version"] == 1
    before = snapshot(target)
    assert task.run(*_args(publish_context(tmp_path / "p2", store, dones, target))).facts == result.facts
    assert snapshot(target) == before
    latest = Latest.model_validate_json(before["assets/pot/latest.json"] or b"")
    manifest_bytes = before[latest.manifest] or b""
    assert sha256_bytes(manifest_bytes) == latest.manifest_sha256
    manifest = Manifest.model_validate_json(manifest_bytes)
    assert {file.path for file in manifest.files} == {
        "asset.glb",
        "asset.ply",
        "asset-thumb.usdz",
        "report.html",
        "quality.json",
        "preview.jpg",
        "poses.json",
        "transforms.json",
        "colmap/images.txt",
    }
    assert {file.role for file in manifest.files if "colmap" in file.path} == {"cameras"}
    for file in manifest.files:
        data = before[f"assets/pot/v1/{file.path}"] or b""
        assert (sha256_bytes(data), len(data)) == (file.sha256, file.bytes)
    assert manifest.metrics == {"psnr_mesh": 21.5}
    assert (manifest.units, manifest.scale_source, manifest.scale_uncertainty) == ("metre", "known_distance", 0.01)
    stages = ["ingest", "pose", "train", "surface", "scale", "export", "quality"]
    assert [p.stage for p in manifest.provenance] == stages
    assert b"not published" not in before.values()


def test_the_gates_decide_what_is_published_and_the_report_says_why(tmp_path: Path) -> None:
    store, to = open_store(str(tmp_path / "store")), str(tmp_path / "published")
    dones = commit_inputs(tmp_path, store, b"glb")
    for bound, verdict, shown in ((21.0, "accept", "Accepted"), (22.0, "reject", "Rejected")):
        gate = {"metric": "psnr_mesh", "at_least": bound, "otherwise": "reject"}
        context = publish_context(tmp_path / str(bound), store, dones, to, (gate,))
        result = task.run(*_args(context))
        assert result.facts["verdict"] == verdict
        assert [each["published"] for each in result.facts["receipts"]] == [verdict == "accept"]
        report = (context.output / "report.html").read_text()
        assert shown in report and slot("verdict") not in report
        manifest = Manifest.model_validate_json((context.output / "manifest.json").read_bytes())
        assert [(each.gate.at_least, each.passed) for each in manifest.gates] == [(bound, verdict == "accept")]
    assert "reject: expected psnr_mesh &gt;= 22 dB, found 21.5 dB" in report


def test_manifest_names_each_tier_and_type(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    dones = commit_inputs(tmp_path, store, b"glb", full=True)
    context = publish_context(tmp_path / "p", store, dones, "nowhere")
    entries = {entry.path: entry for _, _, entry in published_files(context)}
    assert next(iter(entries)) == "asset.glb"
    assert {name: entry.tier for name, entry in entries.items() if entry.tier} == {
        "asset.glb": "high",
        "asset.ply": "high",
        "asset-thumb.usdz": "thumb",
        "mesh.ply": "full",
    }
    assert entries["asset-thumb.usdz"].media_type == "model/vnd.usdz+zip"
    assert (entries["points.e57"].media_type, entries["points.e57"].role) == ("model/e57", "points")
    assert entries["points.ply"].role == "points" and not {"asset.notes", "dense.npz"} & set(entries)


def test_new_work_is_a_new_version(tmp_path: Path, target: str) -> None:
    store = open_store(str(tmp_path / "store"))
    for number, glb in enumerate((b"one", b"two", b"three"), start=1):
        context = publish_context(tmp_path / glb.decode(), store, commit_inputs(tmp_path, store, glb), target)
        assert task.run(*_args(context)).facts["receipts"][0]["version"] == number
    after = snapshot(target)
    assert after["assets/pot/v1/asset.glb"] == b"one"
    assert json.loads(after["assets/pot/latest.json"] or b"")["version"] == 3


def test_killed_anywhere_then_run_again(tmp_path: Path, target: str) -> None:
    """Fail at every single write in turn: afterwards a plain run ends in the same state as an undisturbed one."""
    store = open_store(str(tmp_path / "store"))
    dones = commit_inputs(tmp_path, store, b"glb")

    class KilledError(Exception):
        pass

    writes = 0
    for stop in range(20):
        to = f"{target}/{stop}"
        context = publish_context(tmp_path / f"k{stop}", store, dones, to)
        real = open_store(to)
        left = stop

        def count() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        class Dying:
            uri = real.uri

            def __getattr__(self, name: str) -> Any:
                attribute = getattr(real, name)  # noqa: B023 - used within this turn of the loop only

                def call(*args: Any, **kwargs: Any) -> Any:
                    if name.startswith("put"):
                        count()
                    return attribute(*args, **kwargs)

                return call

        context.open_store = lambda _: Dying()  # type: ignore[assignment,return-value]
        try:
            task.run(*_args(context))
            writes = stop
            break
        except KilledError:
            assert "assets/pot/latest.json" not in snapshot(to)
        task.run(*_args(publish_context(tmp_path / f"r{stop}", store, dones, to)))
        assert json.loads(snapshot(to)["assets/pot/latest.json"] or b"")["version"] == 1
    assert writes == 12  # claim, nine files, manifest, latest


def test_racing_publishers_leave_one_consistent_state(tmp_path: Path, target: str) -> None:
    store = open_store(str(tmp_path / "store"))
    works = [commit_inputs(tmp_path, store, glb) for glb in (b"red", b"green", b"blue")]
    errors: list[BaseException] = []

    def publish(i: int) -> None:
        try:
            task.run(*_args(publish_context(tmp_path / f"t{i}", store, works[i], target)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    after = snapshot(target)
    manifests = [key for key in after if key.endswith("manifest.json")]
    assert len(manifests) >= 3
    for key in manifests:
        manifest = Manifest.model_validate_json(after[key] or b"")
        for file in manifest.files:
            assert sha256_bytes(after[key.replace("manifest.json", file.path)] or b"") == file.sha256


def test_rejected_assets_are_not_published(tmp_path: Path, target: str) -> None:
    store = open_store(str(tmp_path / "store"))
    dones = commit_inputs(tmp_path, store, b"bad", Verdict.REJECT)
    result = task.run(*_args(publish_context(tmp_path / "p", store, dones, target)))
    assert result.facts["receipts"][0]["published"] is False
    assert snapshot(target) == {}


def test_minimum_verdict(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    dones = commit_inputs(tmp_path, store, b"so so", Verdict.REVIEW)
    assert PublishTarget(to="t").minimum_verdict == "accept"
    for minimum, published in (("review", True), ("accept", False)):
        to = str(tmp_path / minimum)
        result = task.run(
            *_args(publish_context(tmp_path / ("p" + minimum), store, dones, to, minimum_verdict=minimum))
        )
        assert result.facts["receipts"][0]["published"] is published


def test_corrupting_target_is_caught(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    dones = commit_inputs(tmp_path, store, b"glb")
    context = publish_context(tmp_path / "p", store, dones, str(tmp_path / "t"))
    real = open_store(str(tmp_path / "t"))

    class Corrupting:
        uri = real.uri

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def put_file(self, key: str, path: Path, sha256: str | None = None) -> None:
            real.put_bytes(key, path.read_bytes() + b"!")

    context.open_store = lambda _: Corrupting()  # type: ignore[assignment,return-value]
    with pytest.raises(DigitizeError) as caught:
        task.run(*_args(context))
    assert caught.value.code == ReasonCode.CHECKSUM_MISMATCH
    assert real.stat("assets/pot/latest.json") is None


def _args(context: Context) -> tuple[StageRequest, Context]:
    return context.request, context


def test_a_withdrawn_asset_is_not_published_again(tmp_path: Path, target: str) -> None:
    store = open_store(str(tmp_path / "store"))
    task.run(*_parts(publish_context(tmp_path / "one", store, commit_inputs(tmp_path, store, b"one"), target)))
    at = open_store(target)
    at.delete("assets/pot/latest.json")
    at.put_bytes("assets/pot/withdrawn.json", b"{}")
    context = publish_context(tmp_path / "two", store, commit_inputs(tmp_path, store, b"two"), target)
    assert not task.run(*_parts(context)).facts["receipts"][0]["published"]
    assert at.get_bytes("assets/pot/latest.json") is None and at.get_bytes("assets/pot/v2/manifest.json") is None


def _parts(context: Context) -> tuple[StageRequest, Context]:
    return context.request, context
