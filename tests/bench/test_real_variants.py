"""Variants differ from the default in what they say, and a run counts the seconds of its own work alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import real_rows
from bench.real_rows import run, write_real
from bench.real_variants import STANDARD, VARIANTS, older_row, variant
from models.spec_yaml import load_spec


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return write_real(tmp_path / "photos", tmp_path, cut=True)


@pytest.mark.parametrize("name", [*VARIANTS, "standard"])
def test_every_variant_is_a_sound_specification_in_the_same_store(batch: Path, name: str) -> None:
    default, other = load_spec(batch).spec, load_spec(variant(batch, name)).spec
    assert other.store == default.store and other.publish != default.publish
    assert other.stages["surface"] == default.stages["surface"]
    if name == "standard":
        assert str(other.preset) == "standard" and other.stages == default.stages
        return
    (choice,) = other.stages["train"]
    assert choice.method == VARIANTS[name]["train"][0]
    assert choice.options.get("dense_prior") == VARIANTS[name].get("options", {}).get("dense_prior")
    assert (other.assets[0].masks == "none") == (name in ("without_masks", "without_either"))


def test_given_cameras_are_taken(tmp_path: Path) -> None:
    (tmp_path / "set" / "photos").mkdir(parents=True)
    (tmp_path / "set" / "transforms.json").write_text("{}")
    spec = load_spec(write_real(tmp_path / "set", tmp_path, cut=True)).spec
    assert spec.stages["pose"][0].method == "known" and "poses" in spec.assets[0].inputs


def test_a_run_counts_what_it_used_and_tried(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = {"old": 100.0, "shared": 10.0}

    def write(stage: str, key: str, seconds: float) -> None:
        folder = batch.parent / "store" / "work" / "photos" / stage / key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "DONE.json").write_text(json.dumps({"key": key, "cpu_seconds": seconds}))

    def digitize(*words: str, tree: Path) -> tuple[dict[str, Any], float]:
        write("train", "rejected", 3.0)
        write("train", "new", 4.0)
        stages = {"pose": {"key": "shared"}, "train": {"key": "new"}, "surface": {"key": None}}
        asset = {"id": "photos", "verdict": "accept", "phase": "done", "reasons": [], "rejected": [], "stages": stages}
        return {"assets": [asset]}, 1.0

    for stage, key in (("pose", "shared"), ("train", "old")):
        write(stage, key, commits[key])
    monkeypatch.setattr(real_rows, "digitize", digitize)
    assert run(batch)["cpu_seconds"] == {"pose": 10.0, "train": 7.0, "all": 17.0}


def test_an_older_commit_gets_the_photos_and_nothing_that_it_does_not_know(batch: Path) -> None:
    seen = {}

    def record(path: Path, tree: Path) -> dict[str, Any]:
        seen["spec"] = load_spec(path).spec
        return {"verdict": "accept", "surface_folder": str(tree)}

    assert older_row(batch, batch.parent / "tree", record) == {"verdict": "accept"}
    spec = seen["spec"]
    assert not spec.stages and spec.assets[0].photos == str(batch.parent / "photos")
    assert set(STANDARD) < set(real_rows.OBJECTS) and not (batch.parent / "older").exists()
