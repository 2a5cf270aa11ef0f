"""The `scale` of a specification: each kind's own keys, refused by name with the line where they stand."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from flows.asset import run_asset
from flows.cli.spec import spec_schema
from flows.plan.batch_plan import plan_batch
from flows.plan.captures import find_captures
from flows.plan.validate import check_spec
from flows.status.board import Board
from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from models.results import Done, StageRequest, StageResult
from models.spec_yaml import load_spec
from models.stage import Stage
from models.status import Phase
from tasks.commit import run_stage
from tasks.context import Context
from tests.support import make_context

GOOD = """\
name: night
preset: preview
publish: [{to: published}]
assets:
  - id: pot
    photos: photos/pot
    scale: {kind: none}
  - id: vase
    photos: photos/vase
    scale:
      kind: known_distance
      distance_m: 0.1
      a: {pixels: {a.jpg: [1, 2], b.jpg: [3, 4]}}
      b: {pixels: {a.jpg: [5, 6], b.jpg: [7, 8]}}
"""


def write(folder: Path, text: str) -> Path:
    for name in ("pot", "vase"):
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        for file in ("a.jpg", "b.jpg"):
            (folder / "photos" / name / file).write_bytes(b"jpg")
    path = folder / "batch.yaml"
    path.write_text(text)
    return path


def test_a_kind_is_the_method_and_its_keys_are_the_options(tmp_path: Path) -> None:
    pot, vase = plan_batch(load_spec(write(tmp_path, GOOD))).assets
    assert (pot.stages[Stage.SCALE].method, pot.stages[Stage.SCALE].options) == ("none", {})
    found = vase.stages[Stage.SCALE]
    assert found.method == "known_distance"
    marks = {"a.jpg": [1.0, 2.0], "b.jpg": [3.0, 4.0]}
    assert (found.options["distance_m"], found.options["uncertainty_m"]) == (0.1, 0.0)
    assert json.loads(json.dumps(found.options["a"])) == {"pixels": marks}
    assert found.inputs[:2] == (Stage.INGEST, Stage.POSE)


@pytest.mark.parametrize(
    ("old", "new", "line", "code", "words"),
    [
        ("distance_m: 0.1", "distance_m: -1", 12, ReasonCode.SPEC_INVALID, "assets[1].scale.distance_m: expected"),
        (
            "      distance_m: 0.1\n",
            "",
            10,
            ReasonCode.SPEC_INVALID,
            "assets[1].scale.distance_m: this key is required",
        ),
        (
            "distance_m: 0.1",
            "distance_m: 0.1\n      size: 1",
            13,
            ReasonCode.SPEC_INVALID,
            "[1].scale.size: no such key",
        ),
        (
            "b: {pixels: {a.jpg: [5, 6], b.jpg: [7, 8]}}",
            "b: {pixels: {a.jpg: [5, 6]}}",
            14,
            ReasonCode.SPEC_INVALID,
            "assets[1].scale.b.pixels: Dictionary should have at least 2 items",
        ),
        ("{kind: none}", "{kind: none, distance_m: 2}", 7, ReasonCode.SPEC_INVALID, "distance_m: no such key"),
        (
            "kind: known_distance",
            "kind: turntable",
            11,
            ReasonCode.NOT_BUILT_YET,
            "assets[1].scale.kind: expected a kind of scale that is built (known_distance, none), found 'turntable'",
        ),
        ("{kind: none}", "{kind: ruler}", 7, ReasonCode.NOT_BUILT_YET, "(known_distance, none), found 'ruler'"),
    ],
)
def test_mistakes_name_the_key_and_its_line(
    tmp_path: Path, old: str, new: str, line: int, code: ReasonCode, words: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    mistake = check_spec(path).mistakes[0]
    assert words in mistake.message and (mistake.line, mistake.code) == (line, code)
    with pytest.raises(DigitizeError) as caught:
        plan_batch(load_spec(path))
    assert words in caught.value.message and caught.value.path == f"{path}:{line}"


def ran(folder: Path, text: str) -> list[str]:
    """The stages of `vase` that a run works on, none of which does anything but write its key."""
    plan = plan_batch(load_spec(write(folder, text)), ["vase"]).assets[0]
    store, stages = FolderStore(folder / "store"), list[str]()

    def door(request: StageRequest, context: Context) -> StageResult:
        stages.append(str(request.stage))
        (context.output / "key.txt").write_text(request.key)
        return StageResult()

    def work(request: StageRequest) -> Done:
        return run_stage(door, request, make_context(request, folder / "attempts" / request.key, store))

    assert run_asset(plan, store, Board("night"), work, "run-1").phase is Phase.DONE
    return stages


def test_a_distance_and_a_format_concern_the_last_stages_alone(tmp_path: Path) -> None:
    assert ran(tmp_path, GOOD)[-5:] == ["surface", "scale", "export", "quality", "publish"]
    assert ran(tmp_path, GOOD) == []
    longer = GOOD.replace("distance_m: 0.1", "distance_m: 0.2")
    assert ran(tmp_path, longer) == ["scale", "export", "publish"]
    assert ran(tmp_path, GOOD.replace("[1, 2]", "[1.5, 2]")) == ["scale", "export", "publish"]
    formats = "stages: {export: {options: {formats: [glb, stl]}}}\n"
    assert ran(tmp_path, formats + longer) == ["export", "publish"]
    points = "stages: {export: {options: {points: []}}}\n"
    assert ran(tmp_path, points + longer) == ["export", "publish"]


def test_the_choice_has_one_place(tmp_path: Path) -> None:
    text = GOOD.replace("photos: photos/pot", "photos: photos/pot\n    stages: {scale: {method: none}}")
    (mistake,) = check_spec(write(tmp_path, text)).mistakes
    assert "what an asset has under `scale`" in mistake.message and mistake.line == 7
    slow = GOOD.replace("photos: photos/pot", "photos: photos/pot\n    stages: {scale: {timeout_s: 7}}")
    plan = plan_batch(load_spec(write(tmp_path, slow))).assets[0]
    assert plan.stages[Stage.SCALE].resources.timeout_s == 7


def test_a_place_of_captures_is_checked_where_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "captures:\n  - under: photos\n    scale:\n      kind: known_distance\n")
    lines = {(each.line, each.message) for each in check_spec(path).mistakes}
    assert (17, "captures[0].scale.distance_m: this key is required") in lines and len(lines) == 3


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ({"kind": "known_distance"}, "capture.json: scale.distance_m: this key is required"),
        (
            {"kind": "gps"},
            "capture.json: scale.kind: expected a kind of scale that is built (known_distance, none), found 'gps'",
        ),
        ({"kind": "none"}, ""),
    ],
)
def test_a_capture_whose_manifest_has_a_wrong_scale_waits(tmp_path: Path, scale: dict[str, str], words: str) -> None:
    """It must not stop the others: whoever uploaded it has to correct it."""
    text = "name: night\ncaptures:\n  - under: photos\n    scale: {kind: none}\n"
    path = write(tmp_path, text)
    (tmp_path / "photos/pot/capture.json").write_text(json.dumps({"scale": scale}))
    pot = next(each for each in find_captures(load_spec(path)) if each.folder == "pot")
    assert pot.problem.startswith(words) and bool(pot.problem) == bool(words)
    assert pot.is_complete(0.0) is not bool(words)


@pytest.mark.parametrize(
    ("scale", "fits"),
    [
        ({"kind": "none"}, True),
        ({}, True),
        ({"kind": "none", "distance_m": 1}, False),
        ({"kind": "known_distance", "distance_m": 1}, False),
        ({"kind": "gps"}, False),
        (yaml.safe_load(GOOD)["assets"][1]["scale"], True),
    ],
)
def test_the_schema_knows_the_keys_of_each_kind(scale: dict[str, object], fits: bool) -> None:
    document = yaml.safe_load(GOOD)
    document["assets"][0]["scale"] = scale
    checker = jsonschema.Draft202012Validator(spec_schema())
    assert checker.is_valid(document) is fits
