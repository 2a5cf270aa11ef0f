"""The sample capture: photographs of the sample's object, the specification that digitizes it, and the exact truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.artifacts import TRUTH_CAMERAS_FILE, TRUTH_MESH_FILE, TRUTH_SUPPORT_FILE
from models.camera import Camera, CameraSet, Plane, PosedImage, matrix4
from models.digest import canonical_json
from models.mesh.io import write_ply
from tasks.sample.path import around, look_at
from tasks.sample.sensor import save_photo
from tasks.sample.specification import mark_bar, specification

if TYPE_CHECKING:
    pass

FloatArray = npt.NDArray[np.float64]

FOCAL_35MM = 50
"""Equivalent focal length in the photos' EXIF; focal in pixels = FOCAL_35MM / 43.267 mm * diagonal in pixels."""
SUPPORT = Plane(normal=(0.0, 0.0, 1.0), offset=0.0)

_FILM_DIAGONAL_MM = float(np.hypot(36.0, 24.0))
_TARGET: FloatArray = np.array([0.014, 0.0, 0.064])
_DISTANCE_M = 0.435
_RINGS = ((0.34, 12.0), (0.32, 33.0), (0.34, 60.0))
"""(share of the photos, elevation in degrees): level, over the rim, into the bowl."""


def sample_cameras(views: int, width: int, height: int, seed: int = 0) -> tuple[PosedImage, ...]:
    """The photographer's path: three rings around the object, every position a little off, as a hand does it."""
    rng = np.random.default_rng(seed + 10)
    focal = FOCAL_35MM / _FILM_DIAGONAL_MM * float(np.hypot(width, height))
    camera = Camera(width=width, height=height, fx=focal, fy=focal, cx=width / 2.0, cy=height / 2.0)
    counts = [round(share * views) for share, _ in _RINGS]
    counts[-1] = views - sum(counts[:-1])
    images: list[PosedImage] = []
    for ring, (count, (_, elevation)) in enumerate(zip(counts, _RINGS, strict=True)):
        for k in range(count):
            azimuth = 2.0 * np.pi * (k + ring / 3.0 + rng.uniform(-0.12, 0.12)) / count
            slope = np.radians(elevation + rng.uniform(-2.5, 2.5))
            distance = _DISTANCE_M * rng.uniform(0.96, 1.05)
            target = _TARGET + rng.uniform(-0.004, 0.004, 3)
            eye = around(target, azimuth, float(slope), distance)
            c2w = look_at(eye, target, roll=float(np.radians(rng.uniform(-1.5, 1.5))))
            images.append(PosedImage(name=f"sample_{len(images) + 1:03d}.jpg", camera=camera, c2w=matrix4(c2w)))
    return tuple(images)


def write_sample(
    folder: Path,
    *,
    views: int = 48,
    width: int = 640,
    height: int = 480,
    seed: int = 0,
    cell_m: float = 0.00125,
    threads: int = 2,
) -> CameraSet:
    """Write the whole capture: photos/, truth/ and batch.yaml. Equal arguments give equal files.

    Args:
        folder: made if need be; files of the same names in it are replaced.
        views: photos, at least 9.
        width, height: size of each photo in pixels.
        seed: chooses paint, print, camera positions and noise.
        cell_m: fineness of the true surface (`object.build_mesh`).
        threads: photos rendered at the same time.

    Returns:
        the true cameras, as in truth/cameras.json.

    Raises:
        ValueError: on fewer than 9 views, which cannot show the scale bar often enough.
    """
    from tasks.sample.render import Studio

    if views < 9:
        raise ValueError(f"expected at least 9 views, found {views}")
    photos, truth = folder / "photos", folder / "truth"
    photos.mkdir(parents=True, exist_ok=True)
    truth.mkdir(exist_ok=True)
    studio = Studio(cell_m, seed, threads=threads)
    cameras = CameraSet(images=sample_cameras(views, width, height, seed))

    def shoot(number: int) -> None:
        image = cameras.images[number]
        picture = studio.photograph(image.camera, image.c2w, seed * 100_003 + number)
        save_photo(photos / image.name, picture, FOCAL_35MM, "Sample Camera", quality=92, subsampling=0)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(shoot, range(views)))
    write_ply(truth / TRUTH_MESH_FILE, studio.mesh)
    (truth / TRUTH_CAMERAS_FILE).write_bytes(canonical_json(cameras))
    (truth / TRUTH_SUPPORT_FILE).write_bytes(canonical_json(SUPPORT))
    marks = mark_bar(cameras, studio.caster)
    (folder / "batch.yaml").write_text(specification(marks), encoding="utf-8")
    return cameras
