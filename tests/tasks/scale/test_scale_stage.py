"""The scale stage through its door: cameras and marks with known truth, given poses, and marks that tell nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DigitizeError, ReasonCode
from models.scale import MeasuredScale
from models.stage import Given
from tasks.scale.task import default_method, run
from tests.tasks.scale.scale_capture import GIVEN, lens, marks, scale_context, write_capture


def measured(folder: Path, camera: Any, method: str = "known_distance", **options: Any) -> MeasuredScale:
    """What the stage finds, from the file that it writes."""
    write_capture(folder / "store", camera)
    context = scale_context(folder, folder / "store", method, **options)
    result = run(context.request, context)
    found = MeasuredScale.model_validate_json((context.output / "scale.json").read_bytes())
    assert result.facts["scale_source"] == found.source
    return found


@pytest.mark.parametrize("k1", [-0.12, 0.15, 0.0], ids=["barrel", "pincushion", "pinhole"])
def test_a_known_distance_gives_metres(tmp_path: Path, k1: float) -> None:
    camera = lens(k1)
    found = measured(tmp_path, camera, **GIVEN, **marks(camera))
    assert found.metres_per_unit == pytest.approx(0.12 / 0.5, rel=1e-6)
    assert (found.source, found.units, found.factor) == ("known_distance", "metre", found.metres_per_unit)
    assert found.residual_px is not None and found.residual_px < 1e-3
    # marks are never trusted to better than a pixel, nor the tape measure to better than it says
    assert found.uncertainty is not None and 0.005 < found.uncertainty < 0.05


def test_noisy_marks_give_an_honest_uncertainty(tmp_path: Path) -> None:
    camera = lens()
    found = measured(tmp_path, camera, **GIVEN, **marks(camera, noise_px=2.0))
    assert found.uncertainty is not None and abs(found.factor / 0.24 - 1.0) < 3.0 * found.uncertainty
    assert found.residual_px is not None and found.residual_px > 0.5


def test_the_lens_matters(tmp_path: Path) -> None:
    """Marks in photos that were undistorted are on the photos as they were taken."""
    camera = lens()
    write_capture(tmp_path / "store", camera)
    (tmp_path / "store/pose/lenses.json").write_text('{"lenses":[]}')
    context = scale_context(tmp_path, tmp_path / "store", "known_distance", **GIVEN, **marks(camera))
    run(context.request, context)
    found = json.loads((context.output / "scale.json").read_bytes())
    assert found["residual_px"] > 0.5


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        ({"p0.jpg": (10.0, 10.0), "gone.jpg": (1.0, 1.0)}, r"point b.*two registered.*found 1.*gone\.jpg"),
        ({"p0.jpg": (10.0, 10.0), "unregistered.jpg": (1.0, 1.0)}, r"unregistered\.jpg: its camera was not found"),
        ({"p0.jpg": (10.0, 10.0), "p1.jpg": (600.0, 400.0)}, "one physical point"),
        ({"p0.jpg": (10.0, 10.0), "p1.jpg": (6000.0, 400.0)}, r"inside p1\.jpg \(640x480\)"),
    ],
    ids=["unknown", "unregistered", "two points", "outside"],
)
def test_marks_that_cannot_be_used_are_named(tmp_path: Path, pixels: dict[str, Any], words: str) -> None:
    camera = lens()
    options = {**marks(camera), "b": {"pixels": pixels}}
    with pytest.raises(DigitizeError, match=words) as caught:
        measured(tmp_path, camera, **GIVEN, **options)
    assert caught.value.code is ReasonCode.SCALE_UNSOLVED


def test_marks_are_found_by_the_names_that_the_user_gave(tmp_path: Path) -> None:
    """With the folder before the name, or by the name of a duplicate of another size; what is lost is told."""
    camera = lens()
    write_capture(tmp_path / "store", camera)
    path = tmp_path / "store/ingest/photos.json"
    index = json.loads(path.read_bytes())
    twin = {"name": "copy.jpg", "code": "duplicate", "message": "the same picture as p1.jpg", "same_as": "p1.jpg"}
    index["rejected"] = [{**twin, "source_width": 1280, "source_height": 960}]
    path.write_text(json.dumps(index))
    given = marks(camera)
    for point in given.values():
        pixels = point["pixels"]
        pixels["ring1/p0.jpg"] = pixels.pop("p0.jpg")
        pixels["copy.jpg"] = tuple(2 * each for each in pixels.pop("p1.jpg"))
        pixels["gone.jpg"] = (1.0, 1.0)
        for name in ("p3.jpg", "p4.jpg"):
            del pixels[name]
    context = scale_context(tmp_path, tmp_path / "store", "known_distance", **GIVEN, **given)
    result = run(context.request, context)
    assert result.facts["metres_per_unit"] == pytest.approx(0.24, rel=1e-6)
    reason = "gone.jpg: no photo of the capture, or one that was left out"
    assert result.facts["notes"] == [f"mark of a in {reason}", f"mark of b in {reason}"]


def test_equal_marks_and_parallel_rays_are_refused(tmp_path: Path) -> None:
    camera = lens(0.0)
    same = {**marks(camera), "b": marks(camera)["a"]}
    with pytest.raises(DigitizeError, match="a and b at the same place"):
        measured(tmp_path / "same", camera, **GIVEN, **same)
    write_capture(tmp_path / "store", camera)
    path = tmp_path / "store/pose/poses.json"
    poses = json.loads(path.read_bytes())
    poses["images"][1]["c2w"] = poses["images"][0]["c2w"]
    path.write_text(json.dumps(poses))
    pair = {name: {"pixels": {"p0.jpg": (300.0, 200.0), "p1.jpg": (300.0, 200.0)}} for name in ("a", "b")}
    context = scale_context(tmp_path, tmp_path / "store", "known_distance", **GIVEN, **pair)
    with pytest.raises(DigitizeError, match="parallel rays"):
        run(context.request, context)


@pytest.mark.parametrize(
    ("units", "expected"),
    [("metre", MeasuredScale(metres_per_unit=1.0, source="poses")), ("arbitrary", MeasuredScale())],
)
def test_without_a_scale_given_poses_alone_can_be_in_metres(
    tmp_path: Path, units: str, expected: MeasuredScale
) -> None:
    write_capture(tmp_path / "store", lens(), units)
    context = scale_context(tmp_path, tmp_path / "store", "none")
    run(context.request, context)
    assert MeasuredScale.model_validate_json((context.output / "scale.json").read_bytes()) == expected
    assert expected.units == units


def test_kinds_that_are_not_built_are_refused_with_those_that_are() -> None:
    with pytest.raises(DigitizeError, match=r"that is built \(known_distance, none\), found 'ruler'") as caught:
        default_method(Given("rings", scale="ruler"))
    assert caught.value.code is ReasonCode.NOT_BUILT_YET
