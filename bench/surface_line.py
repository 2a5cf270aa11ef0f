"""One row of `surface.py` through the whole line: the published, textured mesh of one object, as a user gets it.

    python -m bench.surface_line flask hash_sdf --data ../shared/data --work FOLDER [--solve]

Photos with masks before grey, preset `preview`; the cameras are given, or solved by the pose stage with `--solve`. The
last line is one JSON object: geometry against the truth, PSNR of field and mesh, seconds a stage.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from bench.surface_rows import load_scene
from bench.surface_scenes import Scene
from models.artifacts import TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE
from models.camera import CameraSet, PosedImage, matrix4
from models.digest import canonical_json
from models.mesh.io import write_ply

GREY = 0.6
KEPT = ("chamfer", "fscore_1pct", "fscore_0_5pct", "fscore_0_25pct", "normal_consistency", "psnr_model", "psnr_mesh")


def write_capture(made: Scene, folder: Path, method: str, solve: bool) -> Path:
    """Photos, masks, cameras and truth of a scene, and the specification that digitizes it."""
    for name in ("photos", "masks", "truth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images = []
    for view in [*made.views["train"], *made.views["test"]]:
        name = view.name.replace("/", "_") + ".png"
        rgb, mask = (np.round(part * 255.0).astype(np.uint8) for part in (view.over(GREY), view.alpha))
        Image.fromarray(rgb).save(folder / "photos" / name)
        Image.fromarray(mask).save(folder / "masks" / name)
        images.append(PosedImage(name=name, camera=view.camera, c2w=matrix4(view.c2f), split="train"))
    cameras = CameraSet(images=tuple(sorted(images, key=lambda image: image.name)))
    (folder / "truth" / TRUTH_CAMERAS_FILE).write_bytes(canonical_json(cameras))
    write_ply(folder / "truth" / TRUTH_MESH_FILE, made.truth)
    asset: dict[str, Any] = {
        "id": made.name,
        "photos": "photos",
        "masks": {"path": "masks"},
        "scale": {"kind": "none"},
        "truth": "truth",
    }
    if not solve:
        asset["poses"] = {"path": "truth/cameras.json", "format": "cameras"}
    spec = {
        "version": 1,
        "name": made.name,
        "preset": "preview",
        "publish": [{"to": "published", "minimum_verdict": "review"}],
        "stages": {"train": {"method": method, "options": {"mask_use": "empty", "near": 0.05}}},
        "assets": [asset],
    }
    path = folder / "batch.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def digitize(*arguments: str) -> dict[str, Any]:
    """The document of one `digitize ... --json`."""
    command = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"digitize {' '.join(arguments)} ended with {done.returncode}: {done.stdout[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(name: str, method: str, solve: bool, data: Path, work: Path) -> dict[str, Any]:
    """One row's figures."""
    settings = {"object": name, "method": method, "cameras": "solved" if solve else "given"}
    made = load_scene(name, data, work)
    if made is None:
        return {**settings, "skipped": f"no data for {name} in --data"}
    folder = work / f"line-{name}-{method}-{settings['cameras']}"
    shutil.rmtree(folder, ignore_errors=True)
    batch, load = write_capture(made, folder, method, solve), os.getloadavg()[0]
    outcome = digitize("run", str(batch))
    asset = digitize("status", str(batch))["assets"][0]
    stages = {stage: each["seconds"] for stage, each in asset["stages"].items() if each["seconds"]}
    found: dict[str, Any] = {**settings, "verdict": outcome["assets"][0]["verdict"], "stages": stages}
    if asset.get("published"):
        metrics = json.loads((Path(asset["model"]).parent / "manifest.json").read_text())["metrics"]
        found |= {key: metrics.get(key) for key in KEPT}
        found["texture_gap_db"] = round(metrics["psnr_model"] - metrics["psnr_mesh"], 2)
    return {**found, "load_before": round(load, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object")
    parser.add_argument("method", choices=("hash_sdf", "hash_density"))
    parser.add_argument("--solve", action="store_true")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(json.dumps(row(arguments.object, arguments.method, arguments.solve, arguments.data, arguments.work)))


if __name__ == "__main__":
    main()
