"""A network for masks in a specification: checked before anything is planned, part of the key, and named."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from flows.machine.mask_networks import check_networks
from flows.plan.batch_plan import plan_batch
from flows.plan.validate import check_spec
from infra.storage import open_store
from models.digest import sha256_file
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef, StageRequest
from models.spec import AssetSpec, MaskNetwork
from models.spec_yaml import load_spec
from models.stage import Stage
from tasks.mask.options import NETWORK
from tasks.saliency.u2net import EXTERNAL
from tests.flows.test_cli import ask, tell
from tests.tasks.saliency.onnx_files import brightness


def write(folder: Path, masks: str = "{network: nets/a.onnx, sha256: SHA}", extra: str = "") -> Path:
    """A batch of one asset with a network that answers with brightness."""
    (folder / "nets").mkdir(exist_ok=True)
    (folder / "photos").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "photos" / "a.jpg")
    net = folder / "nets" / "a.onnx"
    net.write_bytes(brightness())
    masks = masks.replace("SHA", sha256_file(net))
    lines = ["name: shelf", extra, "assets:", "  - id: cup", "    photos: photos", "    scale: {kind: none}"]
    path = folder / "batch.yaml"
    path.write_text("\n".join([*lines, f"    masks: {masks}"]) + "\n")
    return path


def request(spec: Path) -> StageRequest:
    (plan,) = plan_batch(load_spec(spec)).assets
    assert plan.stages[Stage.MASK].external == (NETWORK,) and EXTERNAL not in plan.sources
    pose = ArtifactRef(digest="0", uri="store:work/pose")
    inputs = {"pose": pose, NETWORK: plan.sources[NETWORK]}
    mask = plan.stages[Stage.MASK]
    assert mask.method == "saliency"
    return StageRequest(
        asset="cup", stage=Stage.MASK, method=mask.method, version=mask.version, options=mask.options, inputs=inputs
    )


def unusable(spec: Path) -> DigitizeError:
    return plan_batch(load_spec(spec)).unusable["cup"]


def test_a_network_is_a_choice_of_its_own(tmp_path: Path) -> None:
    asset = load_spec(write(tmp_path)).spec.assets[0]
    assert asset.mask_network == MaskNetwork(network="nets/a.onnx", sha256=sha256_file(tmp_path / "nets/a.onnx"))
    assert asset.given_masks is None and AssetSpec.model_validate_json(asset.model_dump_json()) == asset
    for masks, message in (
        ("{network: nets/a.onnx}", "masks.sha256: this key is required"),
        ("{network: nets/a.onnx, sha256: 12}", "masks.sha256"),
        ("{network: nets/a.onnx, sha256: SHA, role: object}", "masks.role: no such key"),
    ):
        with pytest.raises(DigitizeError, match=message):
            load_spec(write(tmp_path, masks))


def test_the_key_follows_the_content(tmp_path: Path) -> None:
    key = request(write(tmp_path)).key
    spec = write(tmp_path, "{network: nets/b.onnx, sha256: SHA}")
    (tmp_path / "nets/a.onnx").rename(tmp_path / "nets/b.onnx")
    assert request(spec).key == key
    (tmp_path / "nets/b.onnx").write_bytes(brightness(32, 32))
    spec.write_text(spec.read_text().replace(sha256_file_of(brightness()), sha256_file(tmp_path / "nets/b.onnx")))
    assert request(spec).key != key


def sha256_file_of(data: bytes) -> str:
    from models.digest import sha256_bytes

    return sha256_bytes(data)


def test_wrong_bytes_and_missing_files_are_found_before_planning(tmp_path: Path) -> None:
    spec = write(tmp_path, "{network: nets/a.onnx, sha256: " + "a" * 64 + "}")
    error = unusable(spec)
    assert error.code is ReasonCode.CHECKSUM_MISMATCH and error.asset == "cup"
    assert f"expected the sha256 {'a' * 64}" in error.message and sha256_file_of(brightness()) in error.message
    assert "Copy the network again" in error.hint and error.path == f"{spec}:7"
    assert [(each.code, each.line) for each in check_spec(spec).mistakes] == [(ReasonCode.CHECKSUM_MISMATCH, 7)]
    spec = write(tmp_path, "{network: nets/none.onnx, sha256: SHA}")
    assert unusable(spec).code is ReasonCode.SOURCE_NOT_FOUND and "masks.network" in unusable(spec).message
    assert [each.code for each in check_spec(spec).mistakes] == [ReasonCode.SOURCE_NOT_FOUND]
    assert unusable(write(tmp_path, "{network: nets, sha256: SHA}")).code is ReasonCode.SOURCE_NOT_FOUND


def test_a_method_without_a_network_is_refused(tmp_path: Path) -> None:
    spec = write(tmp_path, extra="stages: {mask: geometry}")
    (mistake,) = check_spec(spec).mistakes
    assert "expected a method that reads mask_network, found none" in mistake.message and mistake.line == 7


def test_a_network_on_s3_is_known_by_its_sha256_and_checked_where_it_is_read(tmp_path: Path, s3_bucket: str) -> None:
    from tasks.external import fetch_external
    from tests.support import make_context

    key = request(write(tmp_path)).key
    spec = write(tmp_path, "{network: " + s3_bucket + "/nets/a.onnx, sha256: SHA}")
    assert unusable(spec).code is ReasonCode.SOURCE_NOT_FOUND
    store = open_store(f"{s3_bucket}/nets")
    store.put_bytes("a.onnx", brightness())
    found = request(spec)
    assert found.key == key
    assert fetch_external(make_context(found, tmp_path / "one"), NETWORK).read_bytes() == brightness()
    store.put_bytes("a.onnx", brightness(8, 8))
    with pytest.raises(DigitizeError, match="expected sha256") as caught:
        fetch_external(make_context(found, tmp_path / "two"), NETWORK)
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH and not caught.value.retryable


def test_masks_that_outline_leave_the_whole_photos_to_the_cameras(tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn/a.png").write_bytes(b"")
    for role, whole in (("outline", True), ("object", False), ("ignore", False)):
        spec = write(tmp_path, f"{{path: drawn, role: {role}}}\n    capture_kind: turntable")
        (plan,) = plan_batch(load_spec(spec)).assets
        assert plan.stages[Stage.POSE].options["features_in_masks"] is not whole
        assert plan.stages[Stage.INGEST].options["mask_role"] == role and Stage.MASK not in plan.stages
        assert plan.stages[Stage.TRAIN].options["mask_use"] == ("auto" if role == "ignore" else "empty")


def test_plan_validate_and_doctor_name_the_network(tmp_path: Path) -> None:
    spec = write(tmp_path)
    short = sha256_file(tmp_path / "nets/a.onnx")[:12]
    line = f"masks by nets/a.onnx, sha256 {short}  (1 asset)"
    assert line in tell("validate", spec).out and line in tell("plan", spec).out
    (asset,) = ask("plan", spec)["assets"]
    assert asset["mask_network"] == f"nets/a.onnx, sha256 {short}"
    (check,) = check_networks(load_spec(spec))
    assert check.level == "ok" and check.found == f"nets/a.onnx: reads 40 x 24 px, sha256 {short}"
    (tmp_path / "nets/a.onnx").write_bytes(b"other")
    (check,) = check_networks(load_spec(spec))
    assert check.level == "fail" and "expected the sha256" in check.found and "Copy" in check.advice
    spec.write_text(spec.read_text().replace(sha256_file_of(brightness()), sha256_file_of(b"other")))
    (check,) = check_networks(load_spec(spec))
    assert check.level == "fail" and "expected a whole ONNX network" in check.found
