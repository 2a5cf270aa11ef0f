"""Specifications: lines in errors, refusals by name, round trips, the published schema."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DigitizeError
from models.spec import AssetSpec, AutomaticMasks, BatchSpec, MaskRole, Masks, Preset, Scale
from models.spec_yaml import load_spec

GOOD = """\
name: night
preset: preview
assets:
  - id: pot
    photos: photos/pot
    scale: {kind: none}
  - id: vase
    photos: s3://bucket/vase
    scale:
      kind: known_distance
      distance_m: 0.1
      a: {pixels: {a.jpg: [1, 2], b.jpg: [3, 4]}}
      b: {pixels: {a.jpg: [5, 6], b.jpg: [7, 8]}}
"""
POT = "photos: photos/pot"


def write(folder: Path, text: str) -> Path:
    path = folder / "batch.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> DigitizeError:
    with pytest.raises(DigitizeError) as caught:
        load_spec(write(folder, text))
    return caught.value


def test_good_spec_and_its_paths(tmp_path: Path) -> None:
    spec_file = load_spec(write(tmp_path, GOOD))
    assert [asset.id for asset in spec_file.spec.assets] == ["pot", "vase"]
    assert spec_file.resolve("photos/pot") == str(tmp_path / "photos/pot")
    assert spec_file.resolve("s3://bucket/vase") == "s3://bucket/vase"
    assert spec_file.line(("assets", 1, "scale", "distance_m")) == 11
    with pytest.raises(ValueError, match="frozen"):
        spec_file.spec.name = "other"  # type: ignore[misc]


def test_masks_are_a_folder_or_a_word(tmp_path: Path) -> None:
    def masks(text: str) -> AssetSpec:
        return load_spec(write(tmp_path, GOOD.replace(POT, POT + text))).spec.assets[0]

    assert masks("").masks is AutomaticMasks.AUTO and masks("").given_masks is None
    assert masks("\n    masks: none").masks is AutomaticMasks.NONE
    given = masks("\n    masks: {path: m, role: ignore}")
    assert given.given_masks == Masks(path="m", role=MaskRole.IGNORE)
    assert AssetSpec.model_validate_json(given.model_dump_json()) == given


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("preset: preview", "preset: fast", 2, "expected 'preview', 'standard' or 'high', found 'fast'"),
        ("preset: preview", "presett: preview", 2, "presett: no such key"),
        ("    photos: photos/pot\n", "", 4, "photos: this key is required"),
        ("id: vase", "id: pot", 3, "found 'pot' twice"),
        ("id: pot", "id: ../pot", 4, "found '../pot'"),
        (
            "kind: known_distance",
            "kind: 7",
            10,
            "assets[1].scale.kind: expected text, found what YAML reads as the number 7",
        ),
        (POT, f"{POT}\n    masks: some", 6, "assets[0].masks: expected 'auto', 'geometry' or 'none', found 'some'"),
        (POT, f"{POT}\n    masks:\n      role: ignore", 6, "assets[0].masks.path: this key is required"),
        (POT, f"{POT}\n    masks:\n      path: m\n      rule: x", 8, "assets[0].masks.rule: no such key"),
        ("{kind: none}", "{kind: No Kind}", 6, "assets[0].scale.kind"),
    ],
)
def test_errors_name_the_line_and_what_was_expected(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    error = refused(tmp_path, GOOD.replace(old, new))
    assert words in error.message
    assert f"line {line}:" in error.message
    assert error.path == f"{tmp_path}/batch.yaml:{line}"


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("preset: preview", "preset: x").replace("id: vase", "id: Vase"))
    assert len(error.message.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "expected keys"),
        ("- a\n- b\n", 1, "expected keys"),
        ("name: a\n  bad: [", 2, "expected YAML"),
        ("name: a\nname: b\n", 2, "'name' twice"),
        ("x: &a {y: 1}\nz: *a\n", 1, "alias"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, line: int, words: str) -> None:
    error = refused(tmp_path, text)
    assert words in error.message
    assert str(error.path).endswith(f":{line}")


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DigitizeError, match="no such file"):
        load_spec(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DigitizeError, match="UTF-8"):
        load_spec(tmp_path / "b.yaml")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    with pytest.raises((DigitizeError, yaml.YAMLError)):
        load_spec(write(tmp_path, f"name: !!python/object/apply:os.system ['touch {target}']\n"))
    assert not target.exists()


ids = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
assets = st.builds(AssetSpec, id=ids, photos=st.sampled_from(["a", "b.zip", "s3://x/y"]), scale=st.just(Scale()))


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        BatchSpec,
        name=ids,
        preset=st.sampled_from(Preset),
        seed=st.integers(0, 2**31 - 1),
        assets=st.lists(assets, min_size=1, max_size=4, unique_by=lambda a: a.id).map(tuple),
        publish=st.just(()),
        stages=st.just({}),
        gates=st.just(()),
        store=st.just("store"),
    )
)
def test_round_trip_through_yaml(tmp_path_factory: pytest.TempPathFactory, spec: BatchSpec) -> None:
    path = tmp_path_factory.mktemp("spec") / "batch.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    assert load_spec(path).spec == spec
