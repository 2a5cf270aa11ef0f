"""Write the stage's files: poses.json, points.npz, undistorted pictures and masks, pose.json."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from models.artifacts import LENSES_FILE, POINTS_FILE, POSE_FACTS_FILE, POSES_FILE
from models.camera import LensSet, PoseSet
from models.digest import canonical_json
from models.points import SparsePoints
from tasks.context import Context
from tasks.pose.finish import Arranged
from tasks.pose.undistort import lens_record, write_undistorted, write_undistorted_mask


def write_facts(output: Path, facts: dict[str, Any]) -> None:
    """`pose.json`: the facts without times, so that equal work gives equal bytes."""
    output.mkdir(parents=True, exist_ok=True)
    (output / POSE_FACTS_FILE).write_bytes(canonical_json(facts))


def write_poses(output: Path, poses: PoseSet, points: SparsePoints) -> None:
    """`poses.json` and `points.npz`."""
    output.mkdir(parents=True, exist_ok=True)
    (output / POSES_FILE).write_bytes(canonical_json(poses))
    points.write(output / POINTS_FILE)


def write_lenses(output: Path, arranged: Arranged) -> None:
    """`lenses.json`: how the photos that were undistorted looked before."""
    photos, pinholes = arranged.model.photos + arranged.helping.photos, arranged.pinholes + arranged.helping_pinholes
    pairs = zip(photos, pinholes, strict=True)
    lenses = tuple(lens_record(photo.name, pinhole.lens) for photo, pinhole in pairs if pinhole.lens is not None)
    (output / LENSES_FILE).write_bytes(canonical_json(LensSet(lenses=lenses)))


def write_pictures(arranged: Arranged, poses: PoseSet, context: Context) -> None:
    """Undistorted pictures and masks beside each other, under the names that `poses` gives them."""

    def one(index: int) -> None:
        context.check()
        photo, pinhole, posed = arranged.model.photos[index], arranged.pinholes[index], poses.images[index]
        if posed.image is not None:
            write_undistorted(pinhole, photo.path, context.output / posed.image)
        if photo.mask is not None and posed.mask is not None:
            write_undistorted_mask(pinhole, photo.mask, context.output / posed.mask)

    with ThreadPoolExecutor(max(1, context.threads)) as pool:
        for done, _ in enumerate(pool.map(one, range(len(poses.images)))):
            context.progress(0.8 + 0.2 * (done + 1) / len(poses.images), "undistorting", {})
