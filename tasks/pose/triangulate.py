"""Sparse points for cameras that are known already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from models.camera import invert_rigid
from tasks.pose.base import Capture
from tasks.pose.features import image_ids, open_database
from tasks.pose.given.read import GivenCamera

import pycolmap  # isort: skip


def triangulate(database: Path, capture: Capture, given: dict[str, GivenCamera], work: Path, seed: int) -> Any:
    """A pycolmap.Reconstruction with the given cameras, held fixed, and the points that the matches give.

    Every photo gets a camera of its own: given intrinsics may differ from photo to photo.
    """
    work.mkdir(parents=True, exist_ok=True)
    reconstruction = pycolmap.Reconstruction()
    with open_database(database) as db:
        ids = image_ids(db)
        for photo in (each for each in capture.photos if each.name in given):
            pose = pycolmap.Rigid3d(invert_rigid(given[photo.name].c2w)[:3])
            camera = given[photo.name].lens.camera(db.read_image(ids[photo.key]).camera_id)
            db.update_camera(camera)
            reconstruction.add_camera_with_trivial_rig(camera)
            image = pycolmap.Image(name=photo.key, camera_id=camera.camera_id, image_id=ids[photo.key])
            reconstruction.add_image_with_trivial_frame(image, pose)
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1
    options.random_seed = seed
    options.mapper.random_seed = seed
    options.triangulation.random_seed = seed
    pycolmap.set_random_seed(seed)
    return pycolmap.triangulate_points(reconstruction, database, capture.image_dir, work, True, options)
