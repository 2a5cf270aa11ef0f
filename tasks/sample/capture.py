"""The sample capture: photographs of the sample's object, the specification that digitizes it, and the exact truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, CameraSet, Plane, PosedImage, matrix4, project
from models.digest import canonical_json
from models.mesh.io import write_ply
from tasks.sample.mat import BAR_A, BAR_B, BAR_M

if TYPE_CHECKING:
    from models.mesh.raycast import RayCaster

FloatArray = npt.NDArray[np.float64]

FOCAL_35MM = 50
"""Equivalent focal length in the photos' EXIF; focal in pixels = FOCAL_35MM / 43.267 mm * diagonal in pixels."""
SUPPORT = Plane(normal=(0.0, 0.0, 1.0), offset=0.0)

_FILM_DIAGONAL_MM = float(np.hypot(36.0, 24.0))
_TARGET: FloatArray = np.array([0.014, 0.0, 0.064])
_DISTANCE_M = 0.435
_RINGS = ((0.34, 12.0), (0.32, 33.0), (0.34, 60.0))
"""(share of the photos, elevation in degrees): level, over the rim, into the bowl."""
_MARKED_PHOTOS = 6
_MARK_MARGIN_PX = 12.0


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
            around = [np.cos(azimuth) * np.cos(slope), np.sin(azimuth) * np.cos(slope), np.sin(slope)]
            eye = target + distance * np.array(around)
            c2w = _look_at(eye, target, roll=float(np.radians(rng.uniform(-1.5, 1.5))))
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
        _save_photo(photos / image.name, picture)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(shoot, range(views)))
    write_ply(truth / "mesh.ply", studio.mesh)
    (truth / "cameras.json").write_bytes(canonical_json(cameras))
    (truth / "support.json").write_bytes(canonical_json(SUPPORT))
    marks = mark_bar(cameras, studio.caster)
    (folder / "batch.yaml").write_text(_specification(marks), encoding="utf-8")
    return cameras


def mark_bar(cameras: CameraSet, caster: RayCaster) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Where the scale bar's two end marks are, in the photos that show both best.

    Args:
        caster: the object, which hides the bar from some cameras.

    Returns:
        photo name -> pixels [2] of the first and the second mark, spread over the capture.
    """
    found: list[tuple[float, str, FloatArray]] = []
    ends = np.stack([BAR_A, BAR_B])
    for image in cameras.images:
        pixels, _ = project(image.camera, image.c2w, ends)
        room = min(pixels.min(), float((np.array([image.camera.width, image.camera.height]) - pixels).min()))
        # the neighbourhood of a mark has to be seen too, or nobody could click on it
        around = np.concatenate([ends + np.array([dx, dy, 0.0]) for dx in (-0.004, 0.004) for dy in (-0.004, 0.004)])
        if room >= _MARK_MARGIN_PX and caster.visible(np.concatenate([ends, around]), image.centre, 1e-5).all():
            length = float(np.linalg.norm(pixels[0] - pixels[1]))
            found.append((length, image.name, pixels))
    best = sorted(found, key=lambda each: -each[0])[: 2 * _MARKED_PHOTOS]
    spread = sorted(best, key=lambda each: each[1])[:: max(1, len(best) // _MARKED_PHOTOS)]
    return {name: (pixels[0], pixels[1]) for _, name, pixels in spread[:_MARKED_PHOTOS]}


def _look_at(eye: FloatArray, target: FloatArray, roll: float) -> FloatArray:
    forward = target - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c2w = np.eye(4)
    c2w[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    c2w[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    c2w[:3, 2] = forward
    c2w[:3, 3] = eye
    return c2w


def _save_photo(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Digitize", "Sample Camera"
    details = exif.get_ifd(0x8769)
    height, width = picture.shape[:2]
    details.update({0x829A: 1 / 60, 0x829D: 11.0, 0x8827: 100, 0x920A: float(FOCAL_35MM), 0xA405: FOCAL_35MM})
    details.update({0xA002: width, 0xA003: height})
    Image.fromarray(picture).save(path, quality=92, subsampling=0, exif=exif)


def _specification(marks: dict[str, tuple[FloatArray, FloatArray]]) -> str:
    lines = [[f"{name}: [{pair[k][0]:.1f}, {pair[k][1]:.1f}]" for name, pair in marks.items()] for k in (0, 1)]
    a, b = (("\n" + " " * 10).join(each) for each in lines)
    return f"""\
# A batch: which objects, from which photos, how well, and where to. Try it:
#   digitize plan batch.yaml      what would run, and for how long
#   digitize run batch.yaml       photos in, published assets out; run it again after a stop: it goes on
version: 1
name: sample

# How much time and detail: preview (minutes, any computer), standard, high.
preset: preview

# Finished work is kept here under what it was made from, so nothing is ever computed twice.
store: ./store

# Where finished assets go: folders or s3://bucket/prefix, as many as you like.
publish:
  - to: ./published

# Cut the object off the mat it stands on; `keep` leaves the mat.
stages:
  surface: {{options: {{support: cut}}}}

assets:
  - id: sample
    # A folder, a zip archive, a video, or s3://bucket/prefix; relative paths start at this file.
    photos: ./photos

    # Photos alone do not tell the size. A scale bar of {BAR_M * 1000:g} mm is printed on the mat; the centres of its
    # two round end marks were clicked in some photos: name: [pixels from the left, pixels from the top].
    # Two photos are enough, more are better. An object without a scale says so: `scale: {{kind: none}}`.
    scale:
      kind: known_distance
      distance_m: {BAR_M:g}
      uncertainty_m: 0.0001
      a:
        pixels:
          {a}
      b:
        pixels:
          {b}

    # Only a synthetic or measured object has one: the true mesh and cameras, to score the result against.
    # Nothing but the report looks at it. Leave it out for your own objects.
    truth: ./truth
"""
