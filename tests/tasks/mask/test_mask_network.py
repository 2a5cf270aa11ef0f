"""The mask stage with a given network: equal masks from equal bytes, in a process of its own, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.runner.job import Job
from flows.runner.stage_process import run_in_child
from models.errors import DigitizeError, ReasonCode
from models.results import Done, StageRequest
from models.stage import Given
from models.weights import listed, package_file, pinned_ref
from tasks.mask import task
from tasks.mask.methods import saliency
from tasks.mask.options import NETWORK
from tasks.saliency.u2net import EXTERNAL, WEIGHTS, is_installed
from tests.tasks.mask.captures import MaskCapture, floor
from tests.tasks.saliency.onnx_files import brightness

needs_weights = pytest.mark.skipif(not is_installed(), reason="the weights are not installed: make install")


def usual_network() -> tuple[Path, str]:
    """U^2-Net-p's own file, and its sha256."""
    weights = listed()[WEIGHTS]
    return package_file(weights.package, weights.file, weights.sha256), weights.sha256


def request_with(capture: MaskCapture, path: Path, sha256: str, **options: Any) -> StageRequest:
    request = capture.context(**options).request
    inputs = {"pose": request.inputs["pose"], NETWORK: pinned_ref(str(path), sha256)}
    return request.model_copy(update={"inputs": inputs})


def in_a_process(capture: MaskCapture, request: StageRequest) -> Done:
    job = Job(request=request, store_uri=str(capture.root / "store"), scratch=str(capture.root / "scratch"))
    return run_in_child(job, lambda *_: None, lambda: False)


@needs_weights
def test_the_usual_network_by_its_path_gives_the_usual_masks_in_another_process(tmp_path: Path) -> None:
    capture = MaskCapture(tmp_path, floor(), views=8)
    path, sha256 = usual_network()
    own = tmp_path / "another name.onnx"
    own.write_bytes(path.read_bytes())
    done = in_a_process(capture, request_with(capture, own, sha256))
    usual = capture.context("usual")
    facts = task.run(usual.request, usual).facts
    assert done.result.facts == {**facts, "network": sha256} and facts["scene_mode"] is False
    folder = tmp_path / "store" / done.ref.uri.removeprefix("store:")
    names = [f"masks/{Path(image.name).stem}.png" for image in capture.poses.images]
    for name in (*names, "poses.json"):
        assert (folder / name).read_bytes() == (usual.output / name).read_bytes()


def test_the_content_counts_and_not_the_place(tmp_path: Path) -> None:
    capture = MaskCapture(tmp_path, views=3)
    key = request_with(capture, tmp_path / "a.onnx", "a" * 64).key
    assert request_with(capture, tmp_path / "deep" / "b.onnx", "a" * 64).key == key
    assert request_with(capture, tmp_path / "a.onnx", "b" * 64).key != key
    assert pinned_ref("s3://b/a.onnx", "a" * 64).digest == pinned_ref("package:p/f.onnx", "a" * 64).digest


def test_a_network_that_changed_or_does_not_fit_is_an_error_of_the_worker(tmp_path: Path) -> None:
    from models.digest import sha256_file

    capture, path = MaskCapture(tmp_path, views=3), tmp_path / "net.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(DigitizeError) as caught:
        in_a_process(capture, request_with(capture, path, "0" * 64))
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH
    with pytest.raises(DigitizeError) as caught:
        in_a_process(capture, request_with(capture, path, sha256_file(path)))
    assert caught.value.code is ReasonCode.NETWORK_INVALID
    assert caught.value.asset == "vase" and caught.value.path == str(path)
    path.unlink()
    with pytest.raises(DigitizeError) as caught:
        in_a_process(capture, request_with(capture, path, "0" * 64))
    assert caught.value.code is ReasonCode.SOURCE_NOT_FOUND


def test_the_gate_holds_for_any_network(tmp_path: Path) -> None:
    from models.digest import sha256_file

    capture, path = MaskCapture(tmp_path, floor(), views=6), tmp_path / "net.onnx"
    path.write_bytes(brightness(64, 64))
    context = capture.context()
    context.request = request_with(capture, path, sha256_file(path))
    facts = task.run(context.request, context).facts
    assert facts["network"] == sha256_file(path)
    tried = [*facts["reasons"], *facts.get("notes", ())]
    assert any("undecided_median" in each for each in tried)  # brightness is no mask


def test_the_method_reads_the_network_or_else_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given("rings", frozenset({NETWORK}), masks="network")
    assert saliency.external(given) == (NETWORK,) and saliency.external(Given("rings")) == (EXTERNAL,)
    monkeypatch.setattr(task, "is_installed", lambda: False)
    assert task.default_method(given) == "saliency"
    usual, large = (saliency.estimate(saliency.Options(network_gb=gb), 40, 2.0).memory_gb for gb in (0.25, 4.0))
    assert large - usual == pytest.approx(3.75)
