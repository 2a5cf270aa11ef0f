"""Captures as a phone takes them: what `digitize run` makes of objects in a cluttered room, and of real photos.

    python -m bench.real             six rendered objects with truth, the flower pot and the ruin
    python -m bench.real --quick     one small capture: shows that the script works, under 60 s
    python -m bench.real --all       and the five captures of bad input (`bench.real_bad`)
    python -m bench.real --objects flask,knot --method mvs

Cameras are solved by the line, no masks are given, preset `preview`. The real photos lie below `--data`; without them
their figures are "not measured". The public peer gets two objects' photos as well; its environment is made at the first
use. The last line is one JSON object; rows are kept in `.bench/real.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from bench.line import ROOT, digitize
from bench.real_peer import NAMES as PEER_NAMES
from bench.real_peer import PEERED, peer_figures, peer_rows
from bench.real_scene import scene_figures
from bench.real_texture import texture_gap

NOT_MEASURED = "not measured"
OBJECTS = ("flask", "spot", "avocado", "chair", "knot", "glossy")
VIEWS, WIDTH, HEIGHT = 40, 1024, 768
MESHES = {"spot": "mesh_spot/cow.glb", "avocado": "mesh_avocado/avocado.gltf"}
QUICK = {"views": 14, "width": 400, "height": 300}
TEXTURED = ("flask", "spot", "avocado")
"""Objects whose texture is held against a field's."""
QUICK_STAGES: dict[str, dict[str, Any]] = {
    "mask": {"options": {"depth_edge_px": 192}},
    "train": {"options": {"steps": 300}},
    "surface": {"options": {"resolution": 96, "faces": 4000, "texture_size": 256}},
    "quality": {"options": {"samples": 10000, "max_views": 1}},
}
ROWS = ROOT / ".bench" / "real.json"
KEPT = (
    "chamfer",
    "fscore_1pct",
    "fscore_0_5pct",
    "psnr_mesh",
    "psnr_mesh_corrected",
    "psnr_model",
    "psnr_model_corrected",
    "coverage_mesh",
    "completeness_dense",
    "precision_dense",
    "mesh_gap",
)
POT = {
    "pot_verdict": "verdict",
    "pot_psnr_mesh": "psnr_mesh_corrected",
    "pot_psnr_model": "psnr_model_corrected",
    "pot_completeness": "completeness_dense",
    "pot_precision": "precision_dense",
    "pot_covered": "coverage_mesh",
}


def write_object(name: str, folder: Path, data: Path, size: dict[str, int]) -> Path | None:
    """A phone-style capture of one object; None where its mesh is not there. Returns the specification."""
    from bench.surface_scenes import OBJECTS as MADE
    from models.mesh.io import write_ply
    from tasks.sample.phone_capture import write_phone_sample

    mesh = data / MESHES[name] if name in MESHES else None
    if mesh is not None and not mesh.is_file():
        return None
    if name in ("chair", "knot"):
        folder.mkdir(parents=True, exist_ok=True)
        mesh = folder / f"{name}.ply"
        made = MADE[name](data)
        assert made is not None
        write_ply(mesh, made)
    seed = OBJECTS.index(name)
    write_phone_sample(folder, mesh=mesh, glossy=name == "glossy", seed=seed, **size)
    return folder / "batch.yaml"


def changed(batch: Path, method: str | None, stages: dict[str, dict[str, Any]] | None = None) -> None:
    """Choose another training method, and settings of stages, in a specification."""
    spec = yaml.safe_load(batch.read_text())
    spec["stages"] = {**spec.get("stages", {}), **(stages or {})}
    if method is not None:
        spec["stages"]["train"] = {"method": method}
    batch.write_text(yaml.safe_dump(spec, sort_keys=False))


def without_gates_on_truth(batch: Path) -> None:
    """Let the true mesh score the result and nothing else: neither the verdict nor which method is tried next."""
    spec = yaml.safe_load(batch.read_text())
    spec["gates"] = [{"metric": "fscore_1pct", "at_least": 0, "otherwise": each} for each in ("review", "reject")]
    batch.write_text(yaml.safe_dump(spec, sort_keys=False))


def run(batch: Path) -> dict[str, Any]:
    """`digitize run` to its end: verdict, figures, and CPU seconds a stage."""
    outcome, peak_gb = digitize("run", str(batch))
    (asset,) = outcome["assets"]
    work = batch.parent / "store" / "work" / asset["id"]
    row: dict[str, Any] = {"verdict": asset["verdict"], "phase": asset["phase"], "peak_gb": round(peak_gb, 2)}
    row["reasons"] = [each["message"] for each in asset["reasons"]]
    row["tried"] = [each["methods"].get("train") for each in asset["rejected"]]
    cpu = {}
    for stage, each in asset["stages"].items():
        # all commits: those of other methods, too, that were tried before
        done = [json.loads(path.read_text()) for path in (work / stage).glob("*/DONE.json")]
        if done:
            cpu[stage] = sum({one["key"]: one["cpu_seconds"] for one in done}.values())
        if each["key"] is not None:
            row |= {f"{stage}_folder": str(folder) for folder in (work / stage / each["key"]).glob("attempts/*")}
    row["cpu_seconds"] = {**cpu, "all": round(sum(cpu.values()), 1)}
    quality = Path(row.get("quality_folder", "")) / "quality.json"
    if quality.is_file():
        values = {each["name"]: each["value"] for each in json.loads(quality.read_text())["metrics"]}
        row |= {name: values.get(name) for name in KEPT}
    return row


def mask_iou(row: dict[str, Any], truth: Path) -> list[float]:
    """Of every photo's automatic mask with the true silhouette; 0 where there is no mask."""
    from models.camera import CameraSet, PoseSet
    from models.mesh.io import read_ply
    from models.mesh.raycast import RayCaster, cast_mask
    from models.photos import PhotoIndex
    from tasks.quality.masks import true_camera

    cameras = {
        image.name: image for image in CameraSet.model_validate_json((truth / "cameras.json").read_text()).images
    }
    folder = Path(row.get("mask_folder", "none"))
    if not (folder / "poses.json").is_file():
        return [0.0] * len(cameras)
    caster = RayCaster(read_ply(truth / "mesh.ply"), 2)
    index = PhotoIndex.read(Path(row["ingest_folder"]) / "photos.json")
    stored = {photo.name: (photo.width, photo.height) for photo in index.photos}
    poses = PoseSet.model_validate_json((folder / "poses.json").read_text())
    found = dict.fromkeys(cameras, 0.0)
    for image in poses.images:
        if image.mask is None or image.name not in cameras:
            continue
        true = cameras[image.name]
        camera = true_camera(true, stored[image.name], image.camera)
        exact = cast_mask(caster, camera, true.c2w)
        with Image.open(folder / image.mask) as picture:
            mask = np.asarray(picture.convert("L")) > 127
        found[image.name] = float((mask & exact).sum() / max(1, (mask | exact).sum()))
    return list(found.values())


def phone_rows(names: list[str], data: Path, size: dict[str, int], method: str | None) -> dict[str, dict[str, Any]]:
    """One row an object."""
    rows = {}
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            batch = write_object(name, folder, data, size)
            if batch is None:
                continue
            changed(batch, method, QUICK_STAGES if size is QUICK else None)
            without_gates_on_truth(batch)
            row = run(batch)
            row["mask_iou"] = mask_iou(row, folder / "truth")
            if name in TEXTURED and size is not QUICK and "surface_folder" in row:
                ingest, pose, surface = (Path(row[f"{stage}_folder"]) for stage in ("ingest", "pose", "surface"))
                row["texture_gap_db"] = round(texture_gap(ingest, pose, surface, folder / "truth", folder / "gap"), 3)
            if name in PEERED and size is not QUICK:
                row["peer"] = peer_rows(folder / "photos", folder / "truth", folder / "peer")
            rows[name] = {key: value for key, value in row.items() if not key.endswith("_folder")}
            print(name, json.dumps(rows[name]), flush=True)
    return rows


def real_row(photos: Path, method: str | None, scene: bool = False) -> dict[str, Any] | None:
    """The row of a folder of real photos, with the specification that `digitize init` writes; None without photos.

    Args:
        scene: there is no object on a support: nothing is cut off, and the mesh is held against fused stereo points.
    """
    if not photos.is_dir():
        return None
    with tempfile.TemporaryDirectory() as temporary:
        batch = Path(temporary) / "batch.yaml"
        spec: dict[str, Any] = {
            "name": "real",
            "preset": "preview",
            "publish": [{"to": "published"}],
            "stages": {
                "train": ["mvs", "hash_sdf"],
                **({} if scene else {"surface": {"options": {"support": "cut"}}}),
            },
            "assets": [{"id": photos.name.replace("_", "-"), "photos": str(photos), "scale": {"kind": "none"}}],
        }
        batch.write_text(yaml.safe_dump(spec, sort_keys=False))
        changed(batch, method)
        row = run(batch)
        if scene and "surface_folder" in row:
            changed(batch, "mvs", {"quality": {"options": {"stereo_views": 0, "max_views": 1}}})
            dense = run(batch)
            poses = Path(row["mask_folder"]) / "poses.json"
            holder = "mask_folder" if poses.is_file() else "pose_folder"
            row |= scene_figures(Path(row["surface_folder"]), Path(dense["dense_folder"]), Path(row[holder]))
    found = {key: value for key, value in row.items() if not key.endswith("_folder")}
    print(photos.name, json.dumps(found), flush=True)
    return found


def figures(
    phone: dict[str, dict[str, Any]], pot: dict[str, Any] | None, ruin: dict[str, Any] | None
) -> dict[str, Any]:
    """The figures by name."""
    found: dict[str, Any] = dict.fromkeys(
        ("mask_iou", "phone_chamfer_pct", "phone_fscore_0p5", "phone_fscore_0p5_worst", "phone_accepted"), NOT_MEASURED
    )
    if phone:
        fscores = [row.get("fscore_0_5pct") or 0.0 for row in phone.values()]
        chamfers = [row["chamfer"] for row in phone.values() if row.get("chamfer") is not None]
        found |= {
            "mask_iou": round(float(np.mean([value for row in phone.values() for value in row["mask_iou"]])), 4),
            "phone_chamfer_pct": round(100.0 * float(np.mean(chamfers)), 4) if chamfers else NOT_MEASURED,
            "phone_fscore_0p5": round(float(np.mean(fscores)), 4),
            "phone_fscore_0p5_worst": round(min(fscores), 4),
            "phone_accepted": round(float(np.mean([row["verdict"] == "accept" for row in phone.values()])), 3),
        }
    found |= dict.fromkeys((*POT, "pot_minutes", "ruin_covers", "ruin_floaters"), NOT_MEASURED)
    if pot is not None:
        found |= {name: pot.get(of) for name, of in POT.items()}
        found["pot_minutes"] = round(pot["cpu_seconds"]["all"] / 120.0, 2)
    if ruin is not None and "covers" in ruin:
        found |= {"ruin_covers": ruin["covers"], "ruin_floaters": ruin["floaters"]}
    gaps = [row["texture_gap_db"] for row in phone.values() if "texture_gap_db" in row]
    found["phone_texture_gap_db"] = round(float(np.mean(gaps)), 3) if gaps else NOT_MEASURED
    return found | dict.fromkeys(PEER_NAMES, NOT_MEASURED) | peer_figures(phone)


def main() -> None:
    """Measure and print."""
    from bench.real_bad import KINDS, SIZE, bad_figures, bad_rows

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all", action="store_true", help="the rows of bad input, too")
    parser.add_argument("--objects", default=",".join(OBJECTS))
    parser.add_argument("--method", help="a training method instead of the default")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    names = ["flask"] if arguments.quick else [name for name in arguments.objects.split(",") if name]
    size = QUICK if arguments.quick else {"views": VIEWS, "width": WIDTH, "height": HEIGHT}
    phone = phone_rows(names, arguments.data, size, arguments.method)
    pot = None if arguments.quick else real_row(arguments.data / "scene_flowerpot", arguments.method)
    ruin = None if arguments.quick else real_row(arguments.data / "scene_cyprus", arguments.method, scene=True)
    bad = bad_rows(KINDS, SIZE, arguments.method) if arguments.all and not arguments.quick else {}
    rows = {
        "phone": phone,
        "pot": pot,
        "ruin": ruin,
        "bad": bad,
        "method": arguments.method,
        "machine": platform.processor(),
    }
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps(rows, indent=1))
    found = figures(phone, pot, ruin) | bad_figures(bad)
    print(json.dumps({"bench": "real", "quick": arguments.quick, "figures": found}))


if __name__ == "__main__":
    main()
