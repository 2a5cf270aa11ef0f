"""How far the suite goes with each stage: the capture, the options that make it quick, and what a sphere must come out
as. One row a stage; a stage without a row gets every check but the sphere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.contract import shapes
from flows.contract.capture import FINE, METRES, SMALL, STANDING, TINY, Capture, Kind
from flows.contract.shapes import Finished
from models.camera import project
from models.stage import Stage

_TRAINED: dict[str, Any] = {
    "steps": 150,
    "samples_per_step": 2048,
    "max_rays": 256,
    "evaluate_every": 50,
    "checkpoint_every_s": 0.2,
    "levels": 5,
    "max_resolution": 48,
    "log2_table": 11,
    "hidden": 16,
    "occupancy_resolution": 32,
    "ray_steps": 128,
    "background_levels": 0,
    "mask_use": "empty",
    "rays": 96,
    "coarse_samples": 24,
    "fine_samples": 16,
    "depth": 3,
    "width": 32,
    "position_frequencies": 4,
    "learning_rate": 1e-2,
    "ncc_patches": 16,
    "resolution": 64,
    "photo_memory_gb": 0.25,
}
_SURFACE: dict[str, Any] = {"resolution": 48, "faces": 1500, "texture_size": 128, "tiers": ["thumb"]}
_MEASURED: dict[str, Any] = {
    "samples": 4000,
    "max_views": 1,
    "hull_resolution": 48,
    "report_views": 1,
    "preview_px": 64,
    "still_px": 32,
    "stereo_views": 0,
    "viewer_faces": 500,
    "viewer_texture_px": 64,
}


@dataclass(frozen=True)
class Probe:
    """What the suite does with one stage."""

    kind: Kind = TINY
    """The capture."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values for those of them that a method knows."""
    chosen: Callable[[Capture], Mapping[str, Any]] = lambda capture: {}
    """Further values, which depend on the capture."""
    given: tuple[str, ...] = ("photos", "masks", "truth", "poses")
    """What the user gave."""
    without: tuple[str, ...] = ()
    """Optional inputs that are left out."""
    sphere: Callable[[Finished], Iterable[str]] | None = None
    """Complaints about what came out."""
    outside: Callable[[Capture], tuple[Path, ...]] = lambda capture: ()
    """Folders beside its own that the stage has to write to."""


def _targets(capture: Capture) -> dict[str, Any]:
    return {"targets": [{"to": str(capture.folder / "published"), "minimum_verdict": "review"}], "gates": []}


def _marks(capture: Capture) -> dict[str, Any]:
    """Two points 0.8 units apart, marked where the true cameras see them, and their distance."""
    points = {"a": (0.4, 0.0, 0.1), "b": (-0.4, 0.0, 0.1)}
    found: dict[str, Any] = {"distance_m": 0.8 * METRES}
    for name, point in points.items():
        pixels = {image.name: project(image.camera, image.c2w, [point])[0][0].tolist() for image in capture.images[:6]}
        found[name] = {"pixels": pixels}
    return found


PROBES: dict[Stage, Probe] = {
    Stage.INGEST: Probe(
        options={"min_edge_px": 16, "max_edge_px": 256, "reject_duplicates": False, "blur_ratio": 0.0},
        sphere=shapes.pictures,
    ),
    Stage.POSE: Probe(
        kind=FINE, options={"max_features": 1500, "format": "cameras"}, given=("photos", "poses"), sphere=shapes.cameras
    ),
    Stage.MASK: Probe(kind=STANDING, options={"depth_edge_px": 128}, sphere=shapes.masks),
    Stage.DENSE: Probe(
        kind=SMALL, options={"edge_px": 64, "levels": 1, "geometric_rounds": 1, "iterations": 2}, sphere=shapes.points
    ),
    Stage.TRAIN: Probe(options=_TRAINED, sphere=shapes.model),
    Stage.SURFACE: Probe(options=_SURFACE, sphere=shapes.surface),
    Stage.SCALE: Probe(chosen=_marks, sphere=shapes.size),
    Stage.EXPORT: Probe(options={"formats": ["glb", "ply"]}, sphere=shapes.exported),
    Stage.QUALITY: Probe(options=_MEASURED, sphere=shapes.measured),
    Stage.PUBLISH: Probe(
        chosen=_targets, sphere=shapes.published, outside=lambda capture: (capture.folder / "published",)
    ),
}
"""By stage."""

NEEDS_DENSE = Probe(kind=SMALL, options=_TRAINED, sphere=shapes.model)
"""Of training methods that read depth maps."""


def probe_of(stage: Stage, required: Iterable[str]) -> Probe:
    """The row of a stage, for a method that requires these stages."""
    if stage is Stage.TRAIN and Stage.DENSE in required:
        return NEEDS_DENSE
    return PROBES.get(stage, Probe())
