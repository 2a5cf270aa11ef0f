"""A tiny capture as the pose stage would leave it, and a train request for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.storage import FolderStore
from models.results import StageRequest
from models.stage import Stage
from tasks.context import Context
from tasks.registry import effective_options
from tasks.sample.scenes import fibonacci_cameras, paint, sphere, write_pose_outputs
from tests.support import make_context, ref_of

TINY: dict[str, Any] = {
    "steps": 60,
    "samples_per_step": 2048,
    "evaluate_every": 40,
    "levels": 6,
    "max_resolution": 96,
    "log2_table": 12,
    "hidden": 32,
    "occupancy_resolution": 32,
    "ray_steps": 128,
    "background_levels": 2,
}
"""Options that train in a second or two."""


def write_capture(folder: Path, views: int, size: int, masks: bool = False) -> FolderStore:
    """A store whose `pose` output shows a painted ball before grey."""
    images = fibonacci_cameras(views, size, size, 4.0)
    write_pose_outputs(folder / "store" / "pose", paint(sphere()), images, masks=masks)
    return FolderStore(folder / "store")


def train_context(store: FolderStore, folder: Path, seed: int = 0, **options: Any) -> Context:
    """A context for training on the capture in `store`."""
    effective = effective_options(Stage.TRAIN, "hash_density", "preview", {**TINY, **options})
    request = StageRequest(
        asset="ball",
        stage=Stage.TRAIN,
        method="hash_density",
        version="1",
        options=effective.model_dump(mode="json"),
        inputs={"pose": ref_of(store.root / "pose", "store:pose")},
        seed=seed,
        resources={"memory_gb": 8.0},
    )
    return make_context(request, folder, store, threads=1)
