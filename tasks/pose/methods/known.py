"""Cameras measured elsewhere: checked, completed with sparse points, undistorted."""

from __future__ import annotations

import time
from typing import Literal

from models.ladder import Ladder, Lower
from models.resources import Estimate, Resources
from models.spec import PoseFormat
from tasks.context import Context
from tasks.pose.base import Capture, Solution
from tasks.pose.options import PoseOptions

VERSION = "8"
EXTERNAL = ("poses",)

PRESETS: dict[str, dict[str, object]] = {
    "preview": {"max_features": 3000, "feature_edge_px": 1000},
    "standard": {"max_features": 6000, "feature_edge_px": 1600},
    "high": {"max_features": 10000, "feature_edge_px": 2400},
}

_SMALLER = {"max_features": Lower(factor=0.5, least=1500), "feature_edge_px": Lower(factor=0.7, least=800)}
LADDER = Ladder(memory=_SMALLER, disk=_SMALLER, time={**_SMALLER, "exhaustive_limit": Lower(factor=0.5, least=70)})


class Options(PoseOptions):
    """Options of the `known` method."""

    format: PoseFormat = "auto"
    """What wrote the cameras; `auto` tells by the file."""
    check_poses: bool = True
    """Check the poses against the photos before anything is trained. Switch off where matches mislead: mirrors,
    patterns that repeat."""
    units: Literal["arbitrary", "metre"] = "arbitrary"
    """The unit of the positions given. Set `metre` where they were measured, instead of a known distance."""


def resources(options: Options) -> Resources:
    """Two cores; memory grows with the features."""
    return Resources(cpus=2, memory_gb=2.0 + options.max_features / 4000, scratch_gb=4, timeout_s=2 * 3600)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Features and matching as for `colmap`; no mapping."""
    area = min(megapixels, 0.75 * (options.feature_edge_px / 1000) ** 2)
    pairs = photos * (photos - 1) / 2 if photos <= options.exhaustive_limit else photos * (options.neighbours + 10)
    seconds = 3 + photos * 0.8 * area + pairs * 0.04 * (options.max_features / 4000) ** 1.5
    return Estimate(seconds=seconds, memory_gb=1.0 + 0.0004 * photos * options.max_features / 1000 + area * 0.2)


def solve(capture: Capture, options: Options, context: Context) -> Solution:
    """The given poses, with sparse points triangulated from the photos.

    Raises DigitizeError(poses_invalid) when the file cannot be read or contradicts the photos.
    """
    from tasks.pose import features
    from tasks.pose.given.check import check_given, read_matches
    from tasks.pose.given.read import read_given
    from tasks.pose.triangulate import triangulate

    given = read_given(context, capture, options.format)
    seed, threads = context.request.seed, max(1, context.threads)
    database = context.scratch / "colmap.db"
    solution = Solution(None, database, free_gauge=False, units_metre=options.units == "metre")
    settings = features.FeatureSettings.of(options)
    started = time.monotonic()
    features.create_database(database, capture, "OPENCV", shared=False)
    context.progress(0.05, "features", {})
    features.extract(database, capture, settings, threads)
    context.check()
    context.progress(0.4, "matching", {})
    solution.notes["pairs_compared"] = features.match(database, capture, options, settings, threads, seed)
    context.check()
    solution.seconds["features_and_matching"] = round(time.monotonic() - started, 2)
    checked = check_given(given, read_matches(database, capture) if options.check_poses else [])
    solution.notes["notes"] = list(checked.notes)
    if checked.error_px is not None:
        solution.notes["epipolar_error_px"] = round(checked.error_px, 3)
    context.progress(0.7, "triangulating", {})
    solution.reconstruction = triangulate(database, capture, checked.cameras, context.scratch / "models", seed)
    solution.seconds["total"] = round(time.monotonic() - started, 2)
    solution.tried = [
        {"rung": "given", "registered": len(checked.cameras), "points": solution.reconstruction.num_points3D()}
    ]
    return solution
