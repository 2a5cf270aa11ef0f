"""ONNX networks of other makers: sizes, normalisation, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import DigitizeError, ReasonCode
from tasks.saliency.network import OnnxNetwork, Reading
from tests.tasks.saliency.onnx_files import (
    INT64,
    brightness,
    in_another_file,
    mean_over_channels,
    network,
    node,
    tensor,
    zeros,
)

pytest.importorskip("onnxruntime")
OPEN = ("n", 3, "h", "w")


def ramp(width: int = 40, height: int = 24) -> npt.NDArray[np.uint8]:
    """A picture that grows brighter from left to right, more so in red."""
    u = np.linspace(0.0, 1.0, width)
    colour = np.stack([200 * u, 100 * u, 40 * u], 1)
    return np.round(np.broadcast_to(colour, (height, width, 3))).astype(np.uint8)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(data)
    return path


def refused(path: Path, picture: npt.NDArray[np.uint8] | None = None) -> str:
    with pytest.raises(DigitizeError) as caught:
        found = OnnxNetwork(path)
        assert picture is not None
        found(picture)
    assert caught.value.code is ReasonCode.NETWORK_INVALID
    assert caught.value.path == str(path) and "doctor" in caught.value.hint
    return caught.value.message


def test_a_fixed_size_is_read_from_the_network_and_an_open_one_is_chosen(tmp_path: Path) -> None:
    fixed = OnnxNetwork(written(tmp_path, brightness(24, 40)))
    assert fixed.size == (40, 24) and fixed(ramp(100, 60)).shape == (24, 40)
    path = written(tmp_path, brightness("h", "w", "n"))
    assert OnnxNetwork(path).size == (320, 320)
    assert OnnxNetwork(path, reading=Reading(edge_px=64))(ramp()).shape == (64, 64)


def test_pictures_are_normalised_as_imagenet_s_unless_told_otherwise(tmp_path: Path) -> None:
    path = written(tmp_path, brightness())
    x = ramp().astype(np.float64) / 200.0
    plain = OnnxNetwork(path, reading=Reading(mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0)))
    expected = x.mean(2)
    np.testing.assert_allclose(plain(ramp()), expected / expected.max(), atol=1e-5)
    logits = ((x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).mean(2)  # beyond 0 to 1
    share = 1.0 / (1.0 + np.exp(-logits))
    expected = (share - share.min()) / (share.max() - share.min())
    np.testing.assert_allclose(OnnxNetwork(path)(ramp()), expected, atol=1e-5)


def test_the_first_output_counts(tmp_path: Path) -> None:
    shape = (1, 3, 24, 40)
    outputs = [tensor("mask", (1, 1, 24, 40)), tensor("other", shape)]
    data = network([tensor("picture", shape)], outputs, [mean_over_channels(), node("Neg", result="other")])
    assert OnnxNetwork(written(tmp_path, data))(ramp())[0, -1] == 1.0


def test_networks_that_do_not_fit_are_refused_with_what_was_found(tmp_path: Path) -> None:
    mask = tensor("mask", (1, 1, 24, 40))
    copy = [node("Identity")]

    def made(*inputs: bytes, outputs: tuple[bytes, ...] = (mask,)) -> Path:
        return written(tmp_path, network(inputs, outputs, copy))

    grey = refused(made(tensor("picture", (1, 1, 24, 40))))
    assert "expected one input [1, 3, height, width]" in grey and "found picture [1, 1, 24, 40]" in grey
    batch = refused(written(tmp_path, brightness(batch=8)))
    assert "found picture [8, 3, 24, 40]" in batch
    numbers = tensor("picture", (1, 1, 24, 40), INT64), tensor("mask", (1, 1, 24, 40), INT64)
    assert "tensor(int64)" in refused(made(numbers[0], outputs=(numbers[1],)))
    both = [tensor("picture", (1, 3, 8, 8)), tensor("prompt", (1, 3, 8, 8))]
    extra = network(both, [tensor("mask", (1, 3, 8, 8))], [node("Add", ("picture", "prompt"))])
    assert "prompt" in refused(written(tmp_path, extra))
    coloured = refused(made(tensor("picture", (1, 3, 8, 8)), outputs=(tensor("mask", (1, 3, 8, 8)),)))
    assert "expected a first output [1, 1, height, width], found mask [1, 3, 8, 8]" in coloured
    late = made(tensor("picture", ("n", "c", "h", "w")), outputs=(tensor("mask", ("a", "b", "c", "d")),))
    assert "found [1, 3, 320, 320]" in refused(late, ramp())
    assert "expected a whole ONNX network in one file" in refused(written(tmp_path, b"no network"))


def test_weights_beside_the_file_are_refused_because_no_sha256_covers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (1, 1, 24, 40)
    data = network(
        [tensor("picture", (1, 3, 24, 40))],
        [tensor("mask", shape)],
        [mean_over_channels(result="mean"), node("Add", ("mean", "more"))],
        [in_another_file("more", shape, "more.bin")],
    )
    (tmp_path / "more.bin").write_bytes(np.zeros(shape, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    assert "in one file" in refused(written(tmp_path, data))


def test_a_network_that_fails_on_a_picture_says_which_size(tmp_path: Path) -> None:
    nodes = [mean_over_channels(result="mean"), node("Add", ("mean", "more"))]
    answer = tensor("mask", ("n", 1, "h", "w"))
    data = network([tensor("picture", OPEN)], [answer], nodes, [zeros("more", (1, 1, 5, 5))])
    path = written(tmp_path, data)
    with pytest.raises(DigitizeError, match="takes 32 x 32 pixels") as caught:
        OnnxNetwork(path, reading=Reading(edge_px=32), where="s3://bucket/net.onnx")(ramp())
    assert caught.value.path == "s3://bucket/net.onnx"
