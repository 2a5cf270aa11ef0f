"""Structure from motion with COLMAP: SIFT, verified matches, a ladder of mappers (Schoenberger and Frahm 2016)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from tasks.context import Context
from tasks.pose.base import Capture, Solution
from tasks.pose.options import PoseOptions

VERSION = "6"

PRESETS: dict[str, dict[str, object]] = {
    "preview": {"max_features": 3000, "feature_edge_px": 1000},
    "standard": {"max_features": 6000, "feature_edge_px": 1600},
    "high": {"max_features": 10000, "feature_edge_px": 2400},
}

_SMALLER = {"max_features": Lower(factor=0.5, least=1500), "feature_edge_px": Lower(factor=0.7, least=800)}
LADDER = Ladder(memory=_SMALLER, disk=_SMALLER, time={**_SMALLER, "exhaustive_limit": Lower(factor=0.5, least=70)})


class Options(PoseOptions):
    """Options of the `colmap` method."""

    camera_model: Literal["auto", "SIMPLE_RADIAL", "RADIAL", "OPENCV"] = "auto"
    """Lens model: `auto` takes SIMPLE_RADIAL below 8 photos of one camera, RADIAL below 20, else OPENCV."""
    enough: float = Field(default=0.85, ge=0, le=1)
    """Share of registered photos below which the next way of solving is tried as well."""
    deterministic: bool = True
    """Solve on one thread with a fixed seed: equal photos give equal bytes. Turn it off for hundreds of photos."""


def resources(options: Options) -> Resources:
    """Two cores; memory grows with the features."""
    return Resources(cpus=2, memory_gb=2.0 + options.max_features / 4000, scratch_gb=4, timeout_s=4 * 3600)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Measured on two cores: features by area, matching by pairs and features, mapping by photos."""
    area = min(megapixels, 0.75 * (options.feature_edge_px / 1000) ** 2)
    pairs = photos * (photos - 1) / 2 if photos <= options.exhaustive_limit else photos * (options.neighbours + 10)
    features = options.max_features / 4000
    seconds = 5 + photos * 0.8 * area + pairs * 0.04 * features**1.5 + photos * 0.5 * features
    return Estimate(seconds=seconds, memory_gb=1.0 + 0.0004 * photos * options.max_features / 1000 + area * 0.2)


def solve(capture: Capture, options: Options, context: Context) -> Solution:
    """Poses from the photos alone."""
    from tasks.pose import features, solve

    seed, threads = context.request.seed, max(1, context.threads)
    settings = features.FeatureSettings.of(options)
    database = context.scratch / "colmap.db"
    solution = Solution(None, database, free_gauge=True)
    started = time.monotonic()

    def lap(step: str) -> None:
        nonlocal started
        context.check()
        now = time.monotonic()
        solution.seconds[step] = round(solution.seconds.get(step, 0.0) + now - started, 2)
        started = now

    def attempt(settings: features.FeatureSettings, suffix: str) -> list[solve.Attempt]:
        features.create_database(database, capture, options.camera_model)
        context.progress(0.05, "features", {})
        features.extract(database, capture, settings, threads)
        lap("features")
        context.progress(0.3, "matching", {})
        solution.notes["pairs_compared"] = features.match(database, capture, options, settings, threads, seed)
        lap("matching")
        context.progress(0.6, "mapping", {})
        mapping_threads = 1 if options.deterministic else threads
        made = solve.climb(
            database, capture, context.scratch / "models", options.enough, mapping_threads, seed, context.check, suffix
        )
        lap("mapping")
        return made

    attempts = attempt(settings, "")
    wanted = options.enough * len(capture.photos)
    registered = max(a.registered for a in attempts)
    if registered < wanted and _little_texture(database, options.max_features):
        attempts += attempt(settings.dense, "_dense")
    solution.tried = [a.facts for a in attempts]
    solution.reconstruction = solve.best(attempts)
    return solution


def _little_texture(database_path: Path, max_features: int) -> bool:
    """Whether the photos gave so few features that a second search, for fainter ones, can help."""
    from tasks.pose import features

    with features.open_database(database_path) as database:
        counts = [database.num_keypoints_for_image(image.image_id) for image in database.read_all_images()]
    return bool(counts) and 30 <= float(np.median(counts)) < 0.35 * max_features
