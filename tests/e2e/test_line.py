"""The true line end to end on a tiny sample capture, published to an S3 server over HTTP and to a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trimesh

from infra.storage import open_store
from models.digest import sha256_bytes
from models.manifest import Latest, Manifest
from tests.e2e.line import copy_capture, digitize, write_capture


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture"))


@pytest.mark.timeout(900)
def test_photos_in_asset_out(capture: Path, tmp_path: Path, s3_bucket: str) -> None:
    targets = [{"to": to, "minimum_verdict": "review"} for to in (f"{s3_bucket}/museum", "published")]
    batch = copy_capture(capture, tmp_path / "run", store=f"{s3_bucket}/store", publish=targets)

    outcome = digitize("run", str(batch))
    assert outcome["assets"][0]["phase"] == "done"
    assert outcome["assets"][0]["verdict"] in ("accept", "review")

    manifests = [_check_published(uri) for uri in (f"{s3_bucket}/museum", str(batch.parent / "published"))]
    assert manifests[0] == manifests[1]
    _check_metrics(manifests[0].metrics)
    assert manifests[0].units == "metre"

    again = digitize("run", str(batch))
    assert again["ran"] is False
    assert _check_published(f"{s3_bucket}/museum") == manifests[0]


def _check_metrics(metrics: dict[str, Any]) -> None:
    """Bounds far below what the line reaches, and far above what broken cameras, axes or colours give."""
    assert metrics["registered_share"] >= 0.9
    assert metrics["psnr_model"] >= 17
    assert metrics["psnr_mesh"] >= 14
    assert metrics["fscore_1pct"] >= 0.5
    assert metrics["chamfer"] <= 0.03


def _check_published(uri: str) -> Manifest:
    store = open_store(uri)
    latest = Latest.model_validate_json(store.get_bytes("assets/sample/latest.json") or b"")
    data = store.get_bytes(latest.manifest) or b""
    assert sha256_bytes(data) == latest.manifest_sha256
    manifest = Manifest.model_validate_json(data)
    prefix = latest.manifest.rpartition("/")[0]
    contents = {file.path: store.get_bytes(f"{prefix}/{file.path}") or b"" for file in manifest.files}
    assert all(sha256_bytes(contents[file.path]) == file.sha256 for file in manifest.files)
    model = trimesh.load(trimesh.util.wrap_as_stream(contents["asset.glb"]), file_type="glb", force="mesh")
    assert 0.1 < float(model.scale) < 0.5  # the object's diagonal is about 0.2 m
    assert not re.search(rb"(src|href)=.?(https?:|//)|url\((https?:|//)", contents["report.html"])
    json.loads(contents["quality.json"])
    return manifest
