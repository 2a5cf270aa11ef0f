"""A painted body with exact cameras through the dense stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from models.mesh.mesh import Mesh
from models.results import StageRequest
from models.stage import Stage
from tasks.context import Context
from tasks.registry import effective_options
from tasks.sample import scenes
from tests.support import make_context, ref_of

VIEWS = 12


def painted(kind: str = "sphere") -> Mesh:
    """A body whose paint varies over a few pixels of a small photo."""
    bodies = {
        "sphere": lambda: scenes.sphere(1.0, 6),
        "box": lambda: scenes.box((1.2, 1.0, 0.8), 7),
        "torus": fine_torus,
    }
    return scenes.paint(bodies[kind](), 12.0)


def fine_torus() -> Mesh:
    """A ring whose faces are small enough to carry the paint: concave inside."""
    return scenes.from_trimesh(trimesh.creation.torus(0.7, 0.3, major_sections=256, minor_sections=128))


def write_pose(folder: Path, mesh: Mesh, *, views: int = VIEWS, masks: bool = True) -> None:
    """The pose stage's files: views of 160 x 120 pixels from all sides."""
    scenes.write_pose_outputs(folder, mesh, scenes.fibonacci_cameras(views, 160, 120, 4.0), masks=masks)


def stage(folder: Path, pose_folder: Path, seed: int = 0, **options: object) -> Context:
    """A context of the dense stage on those files."""
    store = folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    if not (store / "pose").exists():
        (store / "pose").symlink_to(pose_folder)
    chosen = effective_options(Stage.DENSE, "patchmatch", "preview", dict(options))
    request = StageRequest(
        asset="ball",
        stage=Stage.DENSE,
        method="patchmatch",
        version="1",
        options=chosen.model_dump(),
        inputs={"pose": ref_of(store / "pose", "store:pose")},
        seed=seed,
    )
    return make_context(request, folder, threads=2)


def distances(mesh: Mesh, truth: Mesh) -> tuple[float, float]:
    """Mean distances from mesh to truth and back, as shares of the truth's diagonal."""
    from models.mesh.raycast import RayCaster

    there = RayCaster(truth, 2).distance(mesh.vertices)
    back = RayCaster(mesh, 2).distance(truth.vertices)
    return float(np.mean(there)) / truth.diagonal, float(np.mean(back)) / truth.diagonal
