"""`init` and `sample`: any name becomes a valid id, any path survives the YAML."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from typer.testing import CliRunner

from flows.cli.main import app
from flows.plan.discover import Capture, slug
from flows.plan.scaffold import render_spec
from models.spec import AssetId
from models.spec_yaml import load_spec
from tests.flows.cli_stubs import write_batch

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(TEXT)
def test_any_name_becomes_a_valid_id(name: str) -> None:
    TypeAdapter(AssetId).validate_python(slug(name))


@given(TEXT, st.sampled_from([None, "transforms", "cameras"]))
def test_any_path_survives(name: str, poses: str | None) -> None:
    capture = Capture("vase", name, "3 photos", name, name if poses else None, poses or "transforms")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "batch.yaml"
        path.write_text(render_spec("batch", [capture, Capture("cup", "c", "video")], "batch.yaml"), encoding="utf-8")
        asset = load_spec(path).spec.assets[0]
    assert asset.photos == name and asset.masks is not None and asset.masks.path == name
    assert (asset.poses.path, asset.poses.format) == (name, poses) if asset.poses else poses is None


def test_sample_writes_a_batch_and_refuses_a_full_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = ModuleType("tasks.sample.capture")
    capture.write_sample = lambda folder, **size: write_batch(folder, "sample")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tasks.sample.capture", capture)
    result = CliRunner().invoke(app, ["sample", str(tmp_path / "demo"), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["assets"] == ["sample"] and Path(document["spec"]).is_file()
    assert "digitize plan" in result.stderr
    again = CliRunner().invoke(app, ["sample", str(tmp_path / "demo")])
    assert again.exit_code == 2 and "--force" in again.stderr


def test_sample_in_phone_style_hands_on_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def write_phone_sample(folder: Path, **options: object) -> None:
        asked.update(options)
        write_batch(folder, "sample")

    capture = ModuleType("tasks.sample.phone_capture")
    capture.write_phone_sample = write_phone_sample  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tasks.sample.phone_capture", capture)
    arguments = ["sample", str(tmp_path / "demo"), "--style", "phone", "--mesh", "pot.glb", "--glossy", "--views", "12"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert asked == {"views": 12, "seed": 0, "mesh": Path("pot.glb"), "glossy": True, "material": "paint"}
    arguments = ["sample", str(tmp_path / "ball"), "--style", "phone", "--material", "glass"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert asked["material"] == "glass"


def test_a_mesh_in_studio_style_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["sample", str(tmp_path / "demo"), "--mesh", "pot.glb"])
    assert result.exit_code == 2 and "--style phone" in result.stderr and not (tmp_path / "demo").exists()
    for wrong in (["--material", "mirror"], ["--style", "phone", "--material", "mirror", "--glossy"]):
        result = CliRunner().invoke(app, ["sample", str(tmp_path / "demo"), *wrong])
        assert result.exit_code == 2 and "--material" in result.stderr and not (tmp_path / "demo").exists()
