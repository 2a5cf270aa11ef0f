"""Structure from motion as a ladder: the cheap way first, other ways when too few photos register.

Every rung's models compete and the largest one is kept: COLMAP writes several when a capture falls apart, and
which comes first says nothing about which is the capture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from tasks.pose.base import Capture

import pycolmap  # isort: skip

Check = Callable[[], None]

_GLOBAL_ITERATIONS = 50
_MAX_MODELS = 10


@dataclass(frozen=True)
class Rung:
    """One way of solving."""

    name: str
    mapper: str
    """`incremental` or `global`."""
    relaxed: bool = False
    """Lower thresholds: weaker pairs may start and join a model."""


LADDER = (
    Rung("incremental", "incremental"),
    Rung("incremental_relaxed", "incremental", relaxed=True),
    Rung("global", "global"),
)


@dataclass(frozen=True)
class Attempt:
    """One model that a rung made."""

    rung: str
    registered: int
    points: int
    error_px: float
    reconstruction: Any
    note: str = ""
    """What a photographer should know of it."""
    focal_lengths: int = 1
    """Of the photos without EXIF."""

    @property
    def rank(self) -> tuple[int, int, int]:
        """What the largest model has most of: registered photos, focal lengths, points."""
        return self.registered, self.focal_lengths, self.points

    @property
    def facts(self) -> dict[str, Any]:
        """JSON summary."""
        return {
            "rung": self.rung,
            "registered": self.registered,
            "points": self.points,
            "reprojection_error_px": round(self.error_px, 4),
        }


@dataclass(frozen=True)
class Mapping:
    """How a capture is solved, whichever way."""

    work: Path
    """A folder for the models."""
    enough: float
    """Share of registered photos below which the next rung is tried as well."""
    camera_model: str
    threads: int
    seed: int
    check: Check

    def climb(
        self, database: Path, capture: Capture, suffix: str = "", rungs: tuple[Rung, ...] = LADDER
    ) -> list[Attempt]:
        """Try the rungs of the ladder until one registers enough of the photos.

        Returns:
            all models of all rungs that were tried, in order; one entry with no reconstruction for a rung without any.
        """
        attempts: list[Attempt] = []
        for rung in rungs:
            self.check()
            attempts += run_rung(rung, database, capture, self.work, self.threads, self.seed, self.check, suffix)
            if max(attempt.registered for attempt in attempts) >= self.enough * len(capture.photos):
                break
        return attempts


def best(attempts: list[Attempt]) -> Attempt | None:
    """The largest model of all attempts; None when there is no model of two photos or more.

    A model with several focal lengths takes the place of the one that it was made from.
    """
    solved = [attempt for attempt in attempts if attempt.registered >= 2 and attempt.points > 0]
    return max(solved, key=lambda attempt: attempt.rank) if solved else None


def run_rung(
    rung: Rung, database: Path, capture: Capture, work: Path, threads: int, seed: int, check: Check, suffix: str = ""
) -> list[Attempt]:
    """All models that one way of solving makes."""
    name = rung.name + suffix
    output = work / name
    output.mkdir(parents=True, exist_ok=True)
    pycolmap.set_random_seed(seed)
    if rung.mapper == "global":
        models = pycolmap.global_mapping(database, capture.image_dir, output, _global_options(threads, seed))
    else:
        models = _incremental(database, capture, output, _incremental_options(rung, threads, seed), check)
    check()
    made = [
        Attempt(
            name,
            model.num_reg_images(),
            model.num_points3D(),
            float(model.compute_mean_reprojection_error()),
            model,
        )
        for model in models.values()
    ]
    return made or [Attempt(name, 0, 0, 0.0, None)]


def _incremental(database: Path, capture: Capture, output: Path, options: Any, check: Check) -> dict[int, Any]:
    """Incremental mapping that stops at the next photo once `check` raises; the caller's own check raises again."""
    token = pycolmap.CancellationToken()

    def stop_when_asked() -> None:
        try:
            check()
        except Exception:  # must not travel through C++
            token.cancel()

    models: dict[int, Any] = pycolmap.incremental_mapping(
        database, capture.image_dir, output, options, next_image_callback=stop_when_asked, cancellation_token=token
    )
    return models


def _incremental_options(rung: Rung, threads: int, seed: int) -> Any:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = threads
    options.random_seed = seed
    options.mapper.num_threads = threads
    options.mapper.random_seed = seed
    options.triangulation.random_seed = seed
    options.max_num_models = _MAX_MODELS
    options.min_model_size = 3
    options.ba_global_max_num_iterations = _GLOBAL_ITERATIONS
    if rung.relaxed:
        options.min_num_matches = 10
        options.mapper.init_min_num_inliers = 50
        options.mapper.init_min_tri_angle = 8.0
        options.mapper.abs_pose_min_num_inliers = 18
        options.mapper.abs_pose_min_inlier_ratio = 0.15
    return options


def _global_options(threads: int, seed: int) -> Any:
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = threads
    options.random_seed = seed
    mapper = options.mapper
    mapper.num_threads = threads
    mapper.random_seed = seed
    mapper.rotation_averaging.random_seed = seed
    mapper.global_positioning.random_seed = seed
    mapper.global_positioning.use_gpu = False
    mapper.bundle_adjustment.ceres.use_gpu = False
    mapper.bundle_adjustment.ceres.solver_options.num_threads = threads
    mapper.retriangulation.random_seed = seed
    return options
