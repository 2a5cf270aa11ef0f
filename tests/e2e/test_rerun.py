"""What a corrected distance and other formats cost: the new commits of the true line are counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import yaml

from tests.e2e.line import digitize, write_capture
from tests.plugins.install import install

LENIENT = [
    {"metric": metric, "at_least": bound, "otherwise": "reject"}
    for metric, bound in (("fscore_1pct", 0.05), ("psnr_model", 8.0), ("psnr_mesh", 8.0))
]
"""The mesh is the hull of the sparse points, which trains nothing."""


def commits(batch: Path) -> Counter[str]:
    """The number of commits of each stage."""
    return Counter(path.parts[-3] for path in batch.parent.glob("store/work/sample/*/*/DONE.json"))


def change(batch: Path, **stages: Any) -> dict[str, Any]:
    """Write other choices of stages into the specification; returns all of it."""
    spec: dict[str, Any] = yaml.safe_load(batch.read_text())
    spec["stages"] |= stages
    batch.write_text(yaml.safe_dump(spec, sort_keys=False))
    return spec


def published(outcome: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The manifest, and the diagonal of the published GLB."""
    (asset,) = outcome["assets"]
    assert asset["phase"] == "done"
    folder = Path(asset["model"]).parent
    mesh = trimesh.load(folder / "asset.glb", force="mesh", process=False)
    diagonal = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest, diagonal


@pytest.mark.timeout(900)
def test_a_changed_distance_or_format_trains_nothing_again(tmp_path: Path) -> None:
    environment = install(tmp_path / "site", "convex_points", "digitize.train")
    batch = write_capture(tmp_path / "capture")
    spec = change(
        batch,
        train={"method": "convex_points"},
        surface={"options": {"faces": 5000, "texture_size": 512}},
        export={"options": {"formats": ["glb"]}},
        quality={"options": {"samples": 20000, "max_views": 2, "stereo_views": 0}},
    )
    spec["assets"][0]["masks"] = "none"
    batch.write_text(yaml.safe_dump({**spec, "gates": LENIENT}, sort_keys=False))
    first, diagonal = published(digitize("run", str(batch), **environment))
    before = commits(batch)
    assert set(before.values()) == {1} and {"scale", "export", "quality"} <= set(before)
    assert (first["units"], first["scale_source"]) == ("metre", "known_distance")

    spec = yaml.safe_load(batch.read_text())
    spec["assets"][0]["scale"]["distance_m"] *= 3.0
    batch.write_text(yaml.safe_dump(spec, sort_keys=False))
    second, larger = published(digitize("run", str(batch), **environment))
    after = commits(batch)
    assert after - before == Counter(scale=1, export=1, publish=1)
    assert larger == pytest.approx(3.0 * diagonal, rel=1e-5)
    assert second["metrics"] == first["metrics"]

    change(batch, export={"options": {"formats": ["glb", "stl"]}})
    third, same = published(digitize("run", str(batch), **environment))
    assert commits(batch) - after == Counter(export=1, publish=1)
    assert same == larger
    added = {each["path"] for each in third["files"]} - {each["path"] for each in second["files"]}
    assert added == {"asset.stl"}
