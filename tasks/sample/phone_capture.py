"""The phone-style sample: an object in a cluttered room as a phone photographs it, with the exact truth.

It has what the studio sample leaves out and real captures have: a background full of structure, lens distortion,
vignette, noise, exposure and white balance that change, blur, glare, close-ups cut by the frame, JPEG at quality 85.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from models.artifacts import TRUTH_MESH_FILE
from models.camera import CameraSet, PosedImage
from models.digest import canonical_json
from models.mesh.io import write_ply
from tasks.sample.capture import SUPPORT
from tasks.sample.lens import Lens
from tasks.sample.material import Material
from tasks.sample.phone_path import FOCAL_35MM, phone_cameras
from tasks.sample.phone_render import PhoneStudio
from tasks.sample.room import furnish
from tasks.sample.sensor import Shot, develop, draw_shots, save_photo, take
from tasks.sample.specification import mark_bar, specification
from tasks.sample.subject import sample_subject, user_subject

LENS = Lens(k1=0.075, k2=-0.055, p1=0.0007, p2=-0.0005)
"""Moves the corners of a photo outwards by about 2 % of its diagonal."""

_MIN_VIEWS = 9
_USUAL_WIDTH_PX = 1024
_QUALITY, _SUBSAMPLING = 85, 2
_SENSOR_GAIN = 2.5
_MARK_TOLERANCE_M = 2e-4


def write_phone_sample(
    folder: Path,
    *,
    views: int = 40,
    width: int = 1024,
    height: int = 768,
    seed: int = 0,
    mesh: Path | None = None,
    glossy: bool = False,
    threads: int = 2,
    cell_m: float = 0.00125,
    material: Material = Material.PAINT,
) -> CameraSet:
    """Write the whole capture: photos/, truth/ and batch.yaml. Equal arguments give equal files.

    truth/ holds mesh.ply (the object alone, metres), cameras.json (pinhole cameras at the photos' size), lens.json,
    support.json, masks/<photo's stem>.png (255 where the photo as taken shows the object) and
    depth/<photo's stem>.npz (`depth` [H, W] float32 along z in metres in the pinhole camera, inf beside the object).

    Args:
        folder: made if need be; files of the same names in it are replaced.
        views: photos, at least 9.
        width, height: size of each photo in pixels.
        seed: chooses paint, room, camera positions, shots and noise.
        mesh: PLY, OBJ or GLB of another object; the sample's flask if None (see `subject.user_subject`).
        glossy: the painted object has highlights that move with the camera.
        threads: CPU threads.
        cell_m: fineness of the flask's true surface (`object.build_mesh`).
        material: mirror and clear glass show no paint but the room; truth/mesh.ply keeps the paint's colours.

    Returns:
        the true cameras, as in truth/cameras.json.

    Raises:
        ValueError: on fewer than 9 views, or `glossy` with another material than paint.
        DigitizeError: `mesh` is missing or no mesh of triangles.
    """
    if views < _MIN_VIEWS:
        raise ValueError(f"expected at least {_MIN_VIEWS} views, found {views}")
    if glossy and material is not Material.PAINT:
        raise ValueError(f"expected paint under gloss, found {material}")
    subject = user_subject(mesh, seed) if mesh is not None else sample_subject(cell_m, seed)
    cameras = CameraSet(images=phone_cameras(views, width, height, subject.middle, subject.mesh.diagonal, seed))
    # one sample a pixel: the room's pictures have texels of about a pixel, whatever the photos' size
    coarser = float(np.clip(_USUAL_WIDTH_PX / max(width, height), 0.5, 10.0))
    room = [replace(sheet, texel_m=sheet.texel_m * coarser) for sheet in furnish(seed)]
    studio = PhoneStudio(subject, room, cameras.images[0].camera, LENS, seed, glossy, 1, material)
    truth = folder / "truth"
    for each in (folder / "photos", truth / "masks", truth / "depth"):
        each.mkdir(parents=True, exist_ok=True)
    shots = draw_shots(views, width, seed)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        numbers = range(views)
        list(pool.map(lambda k: _shoot(folder, studio, cameras.images[k], shots[k], seed * 100_003 + k), numbers))
    write_ply(truth / TRUTH_MESH_FILE, subject.mesh)
    for name, record in (("cameras", cameras), ("lens", LENS), ("support", SUPPORT)):
        (truth / f"{name}.json").write_bytes(canonical_json(record))
    marks = mark_bar(cameras, studio.caster, LENS, _MARK_TOLERANCE_M)
    (folder / "batch.yaml").write_text(specification(marks), encoding="utf-8")
    return cameras


def _shoot(folder: Path, studio: PhoneStudio, image: PosedImage, shot: Shot, seed: int) -> None:
    """One photo with its mask and depth."""
    stem = Path(image.name).stem
    exposure = studio.expose(image.c2w)
    picture = develop(take(exposure.linear, shot), seed, _SENSOR_GAIN)
    save_photo(folder / "photos" / image.name, picture, FOCAL_35MM, "Sample Phone", _QUALITY, _SUBSAMPLING)
    Image.fromarray(exposure.mask.astype(np.uint8) * 255).save(folder / "truth" / "masks" / f"{stem}.png")
    np.savez_compressed(folder / "truth" / "depth" / f"{stem}.npz", depth=studio.depth(image.c2w))
