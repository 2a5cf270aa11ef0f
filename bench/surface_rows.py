"""One row of `surface.py`: the surface that a method finds on one object in so many seconds, scored against the truth.

    python -m bench.surface_rows flask hash_sdf 150 --data ../shared/data --work FOLDER

The last line is one JSON object.

Pictures and surfaces are kept in the work folder. Runs in a process of its own; the clock is the wall's and counts
training alone, CPU seconds stand beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.posed import bank
from bench.surface_scenes import EDGE_PX, VIEWS, Scene, scene
from models.camera import PosedImage, matrix4
from models.fields.base import Field
from models.fields.threads import threads_of
from models.malloc import keep_freed_memory
from models.mesh.io import write_ply
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from tasks.quality.geometry import TrueSurface, prepare, score, seen_by
from tasks.quality.hull import true_silhouettes, visual_hull
from tasks.surface.extract import extract
from tasks.train.methods import hash_density, hash_sdf
from tasks.train.radiance_learner import RadianceLearner, new_field
from tasks.train.sdf_learner import SDFLearner, new_surface

SCENES = 1
"""Version of the scenes: a part of every row's key."""
MASKED: dict[str, Any] = {"mask_use": "empty", "background_levels": 0, "near": 0.05}
OPTIONS: dict[str, dict[str, Any]] = {
    "hull": {"resolution": 512},
    "hash_density": {**MASKED, "log2_table": 18, "levels": 10, "max_resolution": 512},
    "hash_sdf": {**MASKED, "log2_table": 18},
    "hash_sdf_without_ncc": {**MASKED, "log2_table": 18, "ncc": 0.0},
}
RESOLUTION = 320
"""Cells along an edge of the cube that surfaces are taken out on; the hull's 512 lie over the object alone."""
DENSITIES = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
CLEANING = 2
"""Version of the cleaning: a part of every row's key."""
SIGHT_SAMPLES, SEEN = 2000, 0.02
"""Parts of which less than that share is seen by any camera are left out, whatever the method."""
CRUMB = 0.01
"""Parts with less than that share of the largest part's area are left out, whatever the method."""


@dataclass(frozen=True)
class Spent:
    """What training took."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    steps: int = 0


def load_scene(name: str, data: Path, work: Path) -> Scene | None:
    """The object's pictures, rendered once."""
    path = work / f"scene-{SCENES}-{name}.pickle"
    if path.is_file():
        found: Scene = pickle.loads(path.read_bytes())
        return found
    made = scene(name, data)
    if made is not None:
        work.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_bytes(pickle.dumps(made))
        path.with_suffix(".part").replace(path)
    return made


def cameras_of(made: Scene) -> list[PosedImage]:
    """The training views' cameras."""
    return [
        PosedImage(name=view.name, camera=view.camera, c2w=matrix4(view.c2f), split="train")
        for view in made.views["train"]
    ]


def train(made: Scene, method: str, seconds: float, options: dict[str, Any]) -> tuple[Field, Spent]:
    """The field after that many seconds of training, with the mean of its weights."""
    pixels = bank(made.views["train"], masks=True, straight=True)
    learner: RadianceLearner
    if method == "hash_density":
        density = hash_density.Options.model_validate(options)
        learner = RadianceLearner(new_field(density, 0, False), pixels, None, density, 0, "cpu")
    else:
        surface = hash_sdf.Options.model_validate(options)
        learner = SDFLearner(new_surface(surface, 0, False), pixels, None, surface, 0, "cpu")
    start, cpu, steps = time.perf_counter(), time.process_time(), 0
    while (spent := time.perf_counter() - start) < seconds:
        learner.step(spent / seconds, 1.0)
        steps += 1
    used = Spent(time.perf_counter() - start, time.process_time() - cpu, steps)
    learner.finish()
    return learner.field.eval(), used


def parts(mesh: Mesh) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """The faces of each connected part of at least CRUMB of the largest one's area, largest first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    places, same = np.unique(np.round(mesh.vertices, 9), axis=0, return_inverse=True)  # corners of different colours
    f = same.reshape(-1)[mesh.faces]
    ones = np.ones(2 * len(f))
    edges = coo_matrix((ones, (np.r_[f[:, 0], f[:, 1]], np.r_[f[:, 1], f[:, 2]])), shape=(len(places),) * 2)
    label = connected_components(edges, directed=False)[1][f[:, 0]]
    a, b, c = (mesh.triangles[:, k] for k in range(3))
    area = np.bincount(label, np.linalg.norm(np.cross(b - a, c - a), axis=1))
    order = [k for k in np.argsort(area)[::-1] if area[k] >= CRUMB * area.max()]
    return [np.flatnonzero(label == k) for k in order]


def cleaned(mesh: Mesh, cameras: list[PosedImage]) -> Mesh:
    """The mesh's large parts that cameras see: what closes a void inside the object is not its surface."""
    if not len(mesh.faces):
        return mesh
    caster, random = RayCaster(mesh), np.random.default_rng(0)
    tolerance = 1e-3 * mesh.diagonal
    kept = []
    for faces in parts(mesh):
        chosen = faces[random.integers(0, len(faces), SIGHT_SAMPLES)]
        seen = seen_by(caster, mesh.triangles[chosen].mean(1), cameras, tolerance, views=1)
        if seen.mean() > SEEN:
            kept.append(faces)
    return Mesh(mesh.vertices, mesh.faces[np.concatenate(kept)]) if kept else Mesh(mesh.vertices, mesh.faces[:0])


@torch.no_grad()
def surfaces(made: Scene, method: str, seconds: float, options: dict[str, Any]) -> tuple[dict[str, Mesh], Spent]:
    """The surfaces to choose from, by what tells them apart."""
    if method == "hull":
        silhouettes = true_silhouettes(RayCaster(made.truth), cameras_of(made), EDGE_PX)
        low, high = made.truth.vertices.min(0) - 0.02, made.truth.vertices.max(0) + 0.02
        return {"hull": visual_hull(silhouettes, low, high, options["resolution"])}, Spent()
    with torch.enable_grad():
        field, spent = train(made, method, seconds, options)
    if method == "hash_density":
        return {f"density {level:g}": extract(field, RESOLUTION, level) for level in DENSITIES}, spent
    return {"level 0": extract(field, RESOLUTION)}, spent


def row(name: str, method: str, seconds: float, data: Path, work: Path) -> dict[str, Any]:
    """One row's figures: of the best of the surfaces to choose from."""
    keep_freed_memory()
    made = load_scene(name, data, work)
    if made is None:
        return {"object": name, "method": method, "skipped": f"no data for {name} in --data"}
    truth: TrueSurface = prepare(made.truth, cameras_of(made))
    load = os.getloadavg()[0]
    with threads_of(torch.get_num_threads()):
        found, spent = surfaces(made, method, seconds, OPTIONS[method])
    rows: list[tuple[float, dict[str, Any], Mesh]] = []
    for label, mesh in found.items():
        shape = cleaned(mesh, cameras_of(made))
        scored = score(shape, truth)
        if scored.chamfer is None:
            continue
        figures = {
            "surface": label,
            "chamfer": scored.chamfer,
            "accuracy": scored.accuracy,
            "completeness": scored.completeness,
            "normal_consistency": scored.normal_consistency,
            "parts": len(parts(shape)),
            "faces": len(shape.faces),
            **{f"fscore_{at.share:g}": at.fscore for at in scored.at},
        }
        rows.append((scored.chamfer, figures, shape))
    if not rows:
        return {"object": name, "method": method, "error": "no surface"}
    _, figures, best = min(rows, key=lambda entry: entry[0])
    write_ply(work / f"{name}-{method}-{seconds:g}.ply", best)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    settings = {"object": name, "method": method, "budget_s": seconds, "views": VIEWS, "edge_px": EDGE_PX}
    true_parts = {"true_parts": len(parts(made.truth)), "load_before": round(load, 2), "peak_gb": round(peak, 2)}
    return {**settings, **asdict(spent), **figures, **true_parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object")
    parser.add_argument("method", choices=sorted(OPTIONS))
    parser.add_argument("seconds", type=float)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(json.dumps(row(arguments.object, arguments.method, arguments.seconds, arguments.data, arguments.work)))


if __name__ == "__main__":
    main()
