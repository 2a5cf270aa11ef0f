"""The truth beside a synthetic or measured capture, read from its folder and scored against."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from models.artifacts import TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE, TRUTH_SUPPORT_FILE
from models.camera import CameraSet, Plane, PosedImage, PoseSet
from models.errors import DigitizeError, ReasonCode
from models.mesh.io import read_ply
from models.mesh.mesh import Mesh
from tasks.quality.alignment import Alignment, align
from tasks.quality.base import AlignmentFacts, GeometryReport
from tasks.quality.geometry import TrueSurface, prepare, score
from tasks.quality.hull import true_silhouettes, visual_hull

HULL_MARGIN = 0.02
"""How much wider than the true bounding box the hull's box is on each side, as a share of its diagonal."""


@dataclass(frozen=True)
class Truth:
    """A capture's truth in its own frame."""

    mesh: Mesh
    cameras: CameraSet
    support: Plane | None


def read_truth(folder: Path) -> Truth:
    """Read `mesh.ply`, `cameras.json` and, where there is one, `support.json`.

    Raises:
        DigitizeError(truth_invalid): a file is missing or not what it should be.
    """
    for name in (TRUTH_MESH_FILE, TRUTH_CAMERAS_FILE):
        if not (folder / name).is_file():
            raise DigitizeError(ReasonCode.TRUTH_INVALID, f"expected {name}, found none", path=str(folder))
    try:
        cameras = CameraSet.model_validate_json((folder / TRUTH_CAMERAS_FILE).read_bytes())
        support = None
        if (folder / TRUTH_SUPPORT_FILE).is_file():
            support = Plane.model_validate(json.loads((folder / TRUTH_SUPPORT_FILE).read_bytes()))
            if not np.linalg.norm(support.normal) > 0:
                raise ValueError("the support's normal has no length")
        mesh = read_ply(folder / TRUTH_MESH_FILE)
    except (ValidationError, ValueError, RecursionError) as error:
        raise DigitizeError(ReasonCode.TRUTH_INVALID, f"not a readable truth: {error}", path=str(folder)) from error
    except DigitizeError as error:
        raise DigitizeError(ReasonCode.TRUTH_INVALID, error.message, path=str(folder / TRUTH_MESH_FILE)) from error
    return Truth(mesh, cameras, support)


@dataclass(frozen=True)
class Measured:
    """The geometry's figures and what they were measured with."""

    report: GeometryReport
    surface: TrueSurface
    alignment: Alignment
    true_cameras: tuple[PosedImage, ...]


def measure(
    prediction: Mesh,
    poses: PoseSet,
    truth: Truth,
    samples: int,
    hull_resolution: int,
    hull_edge_px: int,
    seed: int,
    threads: int,
    check: Callable[[], None] = lambda: None,
) -> Measured:
    """Score a mesh in the capture's frame, and the visual hull beside it.

    Args:
        hull_resolution: cells along the hull's grid; 0 leaves the hull out.
        hull_edge_px: longer side of the hull's silhouettes.
    """
    alignment = align(poses.images, truth.cameras.images)
    surface = prepare(truth.mesh, truth.cameras.images, truth.support, samples, seed, threads, check)
    check()
    mesh_score = score(prediction, surface, alignment.truth_from_capture)
    hull_score = None
    if hull_resolution:
        used = truth.mesh.vertices[np.unique(truth.mesh.faces)]
        margin = HULL_MARGIN * surface.diagonal
        views = true_silhouettes(surface.caster, truth.cameras.images, hull_edge_px, check)
        hull = visual_hull(views, used.min(0) - margin, used.max(0) + margin, hull_resolution, check)
        hull_score = score(hull, surface)
    report = GeometryReport(
        alignment=AlignmentFacts(**alignment._asdict()),
        mesh=mesh_score,
        hull=hull_score,
        support_known=truth.support is not None,
    )
    return Measured(report, surface, alignment, truth.cameras.images)
