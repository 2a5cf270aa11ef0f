"""What other distributions add, each in one file: through the line, the plan, the report, `render` and `gc`."""

from __future__ import annotations

import html
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import yaml
from PIL import Image

from tests.e2e.line import digitize, write_capture
from tests.plugins.install import install

STAGES = ["ingest", "pose", "mask", "widen", "train", "surface", "scale", "export", "quality", "publish"]
MEASURED = [stage for stage in STAGES[:-1] if stage not in ("scale", "export")]
"""What the report shows the settings of: it judges the asset in the capture's own units."""
HEIGHT_M = 0.31
LENIENT = [
    {"metric": metric, "at_least": bound, "otherwise": "reject"}
    for metric, bound in (("fscore_1pct", 0.05), ("psnr_model", 8.0), ("psnr_mesh", 8.0), ("roundness", 0.02))
]
"""A hull of sparse points is no good likeness; what is tested is that it goes all the way."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "convex_points", "digitize.train")
    install(folder, "off", "digitize.exporters")
    install(folder, "roundness", "digitize.metrics")
    install(folder, "known_height", "digitize.scale")
    return folder, install(folder, "widen", "digitize.stages")


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_capture(tmp_path_factory.mktemp("capture"))
    spec = yaml.safe_load(path.read_text())
    spec["gates"] = LENIENT
    spec["stages"] |= {
        "widen": {"options": {"factor": 1.3}},
        "train": {"method": "convex_points"},
        "surface": {
            "options": {"faces": 5000, "texture_size": 512, "support": "keep"},
        },
        "export": {"options": {"formats": ["glb", "off"]}},
    }
    spec["assets"][0]["scale"] = {"kind": "known_height", "height_m": HEIGHT_M}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@pytest.mark.timeout(900)
def test_a_mesh_method_an_exporter_a_scale_a_metric_and_a_stage_go_all_the_way(
    batch: Path, site: tuple[Path, dict[str, str]]
) -> None:
    environment = site[1]
    plan = digitize("plan", str(batch), **environment)
    (planned,) = plan["assets"]
    assert [name for name, each in planned["stages"].items() if each["state"] != "skipped"] == STAGES
    assert planned["stages"]["train"]["method"] == "convex_points"
    assert planned["stages"]["surface"]["method"] == "mesh"
    assert planned["stages"]["scale"]["method"] == "known_height"
    assert {row["state"] for row in planned["stages"].values()} == {"will_run", "waits", "skipped"}

    outcome = digitize("run", str(batch), **environment)
    (asset,) = outcome["assets"]
    states = [row["state"] for row in asset["stages"].values() if row["state"] != "skipped"]
    assert (asset["phase"], states) == ("done", ["committed"] * 10)
    folder = Path(asset["model"]).parent
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [each["stage"] for each in manifest["provenance"]] == STAGES[:-1]
    files = {each["path"]: each for each in manifest["files"]}
    assert files["asset.off"]["media_type"] == "model/x-off"
    _check_exported(folder)
    _check_size(folder, manifest)
    _check_region(batch, asset, manifest)
    _check_report(folder / "report.html", manifest["metrics"])
    _check_metric(folder, manifest)
    _check_render(batch, environment)

    again = digitize("run", str(batch), **environment)
    assert again["ran"] is False
    _check_gc(batch, environment)
    _check_changed_bound(batch, manifest["metrics"]["roundness"], environment)


def _check_metric(folder: Path, manifest: dict[str, Any]) -> None:
    """The installed metric is measured, explained, bounded, and known by its version."""
    page, mesh = html.unescape((folder / "report.html").read_text()), trimesh.load(folder / "asset.glb", force="mesh")
    value = manifest["metrics"]["roundness"]
    assert value == pytest.approx(36 * np.pi * mesh.volume**2 / mesh.area**3, rel=0.01)
    assert "Isoperimetric quotient" in page
    (outcome,) = [each for each in manifest["gates"] if each["gate"]["metric"] == "roundness"]
    assert outcome["passed"] and outcome["value"] == value
    quality = next(each for each in manifest["provenance"] if each["stage"] == "quality")
    assert quality["options"]["metrics"] == {"roundness": "1"}


def _check_changed_bound(batch: Path, value: float, environment: dict[str, str]) -> None:
    """A changed bound judges again, writes the report and publishes: nothing before is computed again."""
    spec = yaml.safe_load(batch.read_text())
    for bound, verdict in ((0.99 * value, "accept"), (1.01 * value, "reject")):
        spec["gates"][-1] = {"metric": "roundness", "at_least": bound, "otherwise": "reject"}
        path = batch.parent / "bound.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        rejected = verdict == "reject"
        (asset,) = digitize("run", str(path), expect=3 if rejected else 0, **environment)["assets"]
        assert [stage for stage, each in asset["stages"].items() if each["state"] == "committed"] == ["publish"]
        assert (asset["verdict"] == "reject") is rejected and (asset["phase"] == "rejected") is rejected
        assert Path(asset["report"]).is_file() and bool(asset["published"]) is not rejected


def _check_exported(folder: Path) -> None:
    off, glb = (trimesh.load(folder / name, force="mesh", process=True) for name in ("asset.off", "asset.glb"))
    assert np.sort(off.extents) == pytest.approx(np.sort(glb.extents), rel=1e-4)
    assert off.area == pytest.approx(glb.area, rel=1e-4)


def _check_size(folder: Path, manifest: dict[str, Any]) -> None:
    """The published model is as high as was said, in metres, and the manifest says who measured it."""
    glb = trimesh.load(folder / "asset.glb", force="mesh", process=False)
    assert np.ptp(glb.vertices[:, 1]) == pytest.approx(HEIGHT_M, rel=1e-5)
    assert (manifest["units"], manifest["scale_source"]) == ("metre", "known_height")
    (scale,) = (each for each in manifest["provenance"] if each["stage"] == "scale")
    assert scale["options"] == {"height_m": HEIGHT_M}


def _check_region(batch: Path, asset: dict[str, Any], manifest: dict[str, Any]) -> None:
    """The published poses are the refining stage's, not the pose stage's, in metres."""
    work = batch.parent / "store" / "work" / asset["id"]
    regions = {}
    for stage in ("pose", "mask", "widen"):  # in scene mode the mask stage has no poses of its own
        for path in (work / stage / asset["stages"][stage]["key"]).glob("attempts/*/poses.json"):
            regions[stage] = np.array(json.loads(path.read_text())["world_from_field"])
    found = list(regions.values())[-2:]
    published = json.loads((Path(asset["model"]).parent / "poses.json").read_text())["world_from_field"]
    assert np.linalg.norm(found[1][:3, 0]) == pytest.approx(1.3 * np.linalg.norm(found[0][:3, 0]))
    (path,) = (work / "scale" / asset["stages"]["scale"]["key"]).glob("attempts/*/scale.json")
    metres = json.loads(path.read_text())["metres_per_unit"]
    assert np.array(published)[:3] == pytest.approx(metres * found[1][:3], rel=1e-12)


def _check_report(path: Path, metrics: dict[str, float]) -> None:
    page = html.unescape(path.read_text())
    assert metrics["psnr_model"] > 8 and metrics["psnr_mesh"] > 8 and "psnr_model_full" not in metrics
    assert "Trained model" in page and "convex_points" in page
    for stage in MEASURED:
        assert f"{stage}: " in page


def _check_render(batch: Path, environment: dict[str, str]) -> None:
    picture = batch.parent / "view.png"
    digitize("render", str(batch), "sample", str(picture), "--view", "0", "--what", "depth", **environment)
    with Image.open(picture) as image:
        depth = np.asarray(image)
    assert depth.shape[1] > 300 and 0.01 < (depth > 0).mean() < 0.9


def _check_gc(batch: Path, environment: dict[str, str]) -> None:
    """What is published or current stays; of another choice everything from the added stage on goes."""
    store = batch.parent / "store"
    for path in store.rglob("*"):
        os.utime(path, (time.time() - 3 * 86400,) * 2)
    command = ("--dry-run", "--older-than", "1")
    kept = digitize("gc", str(batch), *command, **environment)
    assert kept["waste"] == [] and kept["protected_bytes"]["published"] > 0
    shutil.rmtree(batch.parent / "published")
    spec = yaml.safe_load(batch.read_text())
    spec["stages"]["widen"]["options"]["factor"] = 1.4
    other = batch.parent / "other.yaml"
    other.write_text(yaml.safe_dump(spec, sort_keys=False))
    waste = digitize("gc", str(other), *command, **environment)["waste"]
    assert sorted(each["prefix"].split("/")[2] for each in waste) == sorted(STAGES[3:])


def test_without_the_packages_the_specification_is_refused_with_its_lines(batch: Path) -> None:
    document = digitize("validate", str(batch), expect=2)
    messages = [each["message"] for each in document["mistakes"]]
    known = "expected one of the stages ingest, pose, mask, dense, train"
    assert any(known in each and "'widen'" in each for each in messages)
    spec = yaml.safe_load(batch.read_text())
    spec["stages"] = {}
    path = batch.parent / "bare.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    (mistake,) = digitize("validate", str(path), expect=2)["mistakes"]
    assert "assets[0].scale.kind: expected a kind of scale that is built (known_distance, none)" in mistake["message"]
    assert "known_height" in path.read_text().splitlines()[mistake["line"] - 1]


def test_kinds_of_scale_that_are_not_built_are_refused_with_all_that_are(
    batch: Path, site: tuple[Path, dict[str, str]]
) -> None:
    spec = yaml.safe_load(batch.read_text())
    path = batch.parent / "scaled.yaml"
    for scale, words in (
        (
            {"kind": "gps"},
            "scale.kind: expected a kind of scale that is built (known_distance, known_height, none), found 'gps'",
        ),
        ({"kind": "known_height", "height": 1.0}, "scale.height: no such key"),
        ({"kind": "known_height", "height_m": -1.0}, "scale.height_m: expected greater than 0, found -1"),
    ):
        spec["assets"][0]["scale"] = scale
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        mistakes = digitize("validate", str(path), expect=2, **site[1])["mistakes"]
        (line, message) = next((each["line"], each["message"]) for each in mistakes if words in each["message"])
        key = message.split(":")[0].rpartition(".")[2]
        assert f"{key}: " in path.read_text().splitlines()[line - 1]


def test_a_gate_on_a_metric_that_nobody_measures_is_refused_with_its_line(
    batch: Path, site: tuple[Path, dict[str, str]]
) -> None:
    spec = yaml.safe_load(batch.read_text())
    spec["gates"] = [{"metric": "roundnes", "at_least": 0.5}]
    path = batch.parent / "typo.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    (mistake,) = digitize("validate", str(path), expect=2, **site[1])["mistakes"]
    assert "expected a metric that a stage measures (roundness" in mistake["message"]
    assert "roundnes" in path.read_text().splitlines()[mistake["line"] - 1]


def test_what_does_not_fit_is_refused_by_name(batch: Path, site: tuple[Path, dict[str, str]]) -> None:
    spec = yaml.safe_load(batch.read_text())
    spec["stages"]["surface"] = {"method": "isosurface"}
    path = batch.parent / "wrong.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    (mistake,) = digitize("validate", str(path), expect=2, **site[1])["mistakes"]
    assert "takes field from stage train, found 'convex_points', which hands on a mesh" in mistake["message"]
    assert "choose mesh" in mistake["message"]
    assert "isosurface" in path.read_text().splitlines()[mistake["line"] - 1]
