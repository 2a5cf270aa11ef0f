"""The rows of `bench.real`: a capture is written, the line runs on it, and what it made is scored."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from bench.line import ROOT, digitize
from bench.real_peer import PEERED, peer_rows
from bench.real_scene import scene_figures
from bench.real_texture import texture_gap
from bench.real_variants import STANDARD, VARIANTS, older_row, variant, variant_rows
from models.artifacts import TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE

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


def run(batch: Path, tree: Path = ROOT) -> dict[str, Any]:
    """`digitize run` to its end: verdict, figures, and CPU seconds a stage: of what it used and of what it tried.

    Args:
        tree: whose `digitize`.
    """
    had = set((batch.parent / "store" / "work").glob("*/*/*"))
    outcome, peak_gb = digitize("run", str(batch), tree=tree)
    (asset,) = outcome["assets"]
    work = batch.parent / "store" / "work" / asset["id"]
    row: dict[str, Any] = {"verdict": asset["verdict"], "phase": asset["phase"], "peak_gb": round(peak_gb, 2)}
    row["reasons"] = [each["message"] for each in asset["reasons"]]
    row["tried"] = [each["methods"].get("train") for each in asset["rejected"]]
    cpu = {}
    for stage, each in asset["stages"].items():
        # those of other methods, too, that were tried in this run; not those of earlier runs in the same store
        folders = [path for path in (work / stage).glob("*") if path not in had or path.name == each["key"]]
        done = [json.loads(path.read_text()) for folder in folders for path in folder.glob("DONE.json")]
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
        image.name: image for image in CameraSet.model_validate_json((truth / TRUTH_CAMERAS_FILE).read_text()).images
    }
    folders = [Path(row.get(f"{stage}_folder", "none")) for stage in ("dense", "mask")]
    folder = next((each for each in folders if (each / "poses.json").is_file()), None)
    if folder is None:
        return [0.0] * len(cameras)
    caster = RayCaster(read_ply(truth / TRUTH_MESH_FILE), 2)
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


def phone_rows(
    names: list[str], data: Path, size: dict[str, int], method: str | None, older: Path | None = None
) -> dict[str, dict[str, Any]]:
    """One row an object.

    Args:
        older: the tree of an older commit: rows of all variants stand in each object's `variants` then, its own too.
    """
    rows = {}
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            batch = write_object(name, Path(temporary), data, size)
            if batch is None:
                continue
            changed(batch, method, QUICK_STAGES if size is QUICK else None)
            without_gates_on_truth(batch)
            row = phone_row(name, batch, size is QUICK)
            if older is not None:
                wanted = [*VARIANTS, *(["standard"] if name in STANDARD else [])]
                row["variants"] = variant_rows(batch, wanted, run) | {"older": older_row(batch, older, run)}
            rows[name] = {key: value for key, value in row.items() if not key.endswith("_folder")}
            print(name, json.dumps(rows[name]), flush=True)
    return rows


def phone_row(name: str, batch: Path, quick: bool) -> dict[str, Any]:
    """The row of one capture: as `run` has it, its masks against the truth, its texture, and the peer's."""
    folder, row = batch.parent, run(batch)
    row["mask_iou"] = mask_iou(row, folder / "truth")
    if name in TEXTURED and not quick and "surface_folder" in row:
        ingest, pose, surface = (Path(row[f"{stage}_folder"]) for stage in ("ingest", "pose", "surface"))
        row["texture_gap_db"] = round(texture_gap(ingest, pose, surface, folder / "truth", folder / "gap"), 3)
    if name in PEERED and not quick:
        row["mvs_cpu_seconds"] = run(variant(batch, "mvs"))["cpu_seconds"]
        row["peer"] = peer_rows(folder / "photos", folder / "truth", folder / "peer")
    return row


def real_row(
    photos: Path, method: str | None, scene: bool = False, variants: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The row of a folder of real photos, with the specification that `digitize init` writes; None without photos.

    Args:
        scene: there is no object on a support: nothing is cut off, and the mesh is held against fused stereo points.
        variants: further rows.
    """
    if not photos.is_dir():
        return None
    with tempfile.TemporaryDirectory() as temporary:
        batch = write_real(photos, Path(temporary), cut=not scene)
        changed(batch, method)
        row = run(batch)
        if scene and "surface_folder" in row:
            dense = run(variant(batch, "mvs"))
            poses = Path(row["mask_folder"]) / "poses.json"
            holder = "mask_folder" if poses.is_file() else "pose_folder"
            row |= scene_figures(Path(row["surface_folder"]), Path(dense["dense_folder"]), Path(row[holder]))
        if variants:
            row["variants"] = variant_rows(batch, variants, run)
    found = {key: value for key, value in row.items() if not key.endswith("_folder")}
    print(photos.name, json.dumps(found), flush=True)
    return found


def write_real(photos: Path, folder: Path, cut: bool) -> Path:
    """The specification that `digitize init` writes for a folder of photos; its path. Where a `transforms.json` lies in
    the folder, that gives the cameras.

    Args:
        cut: whether the object is cut off its support.
    """
    given = photos / "transforms.json"
    asset: dict[str, Any] = {"id": photos.name.replace("_", "-"), "photos": str(photos), "scale": {"kind": "none"}}
    stages: dict[str, Any] = {"train": ["hash_sdf", "mvs"]} | (
        {"surface": {"options": {"support": "cut"}}} if cut else {}
    )
    if given.is_file():
        asset |= {"photos": str(photos / "photos"), "inputs": {"poses": str(given)}}
        stages["pose"] = {"method": "known"}
    spec = {"name": "real", "preset": "preview", "store": "store", "publish": [{"to": "published"}]}
    batch = folder / "batch.yaml"
    batch.write_text(yaml.safe_dump({**spec, "stages": stages, "assets": [asset]}, sort_keys=False))
    return batch
