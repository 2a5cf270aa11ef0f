"""Writers of other programs' camera files, independent of the readers: by the programs' documents, or pycolmap."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image  # noqa: F401 - pycolmap loaded before Pillow corrupts the heap

from models.camera import PosedImage

import pycolmap  # isort: skip

Cameras = Sequence[PosedImage]
UP_BACK = np.diag([1.0, -1.0, -1.0, 1.0])


def colmap(folder: Path, images: Cameras, binary: bool, names: str = "{}") -> None:
    """A COLMAP model by pycolmap itself."""
    folder.mkdir(parents=True, exist_ok=True)
    model = pycolmap.Reconstruction()
    for number, image in enumerate(images, 1):
        c = image.camera
        params = [c.fx, c.fy, c.cx, c.cy]
        camera = pycolmap.Camera(model="PINHOLE", width=c.width, height=c.height, params=params, camera_id=number)
        model.add_camera_with_trivial_rig(camera)
        pose = pycolmap.Rigid3d(np.linalg.inv(np.array(image.c2w))[:3])
        entry = pycolmap.Image(name=names.format(image.name), camera_id=number, image_id=number)
        model.add_image_with_trivial_frame(entry, pose)
    (model.write_binary if binary else model.write_text)(folder)


def ngp(path: Path, images: Cameras, **top: Any) -> None:
    """transforms.json as Instant-NGP's colmap2nerf.py writes it: one camera, OpenGL axes."""
    c = images[0].camera
    frames = [
        {"file_path": f"./images/{image.name}", "transform_matrix": (np.array(image.c2w) @ UP_BACK).tolist()}
        for image in images
    ]
    head = {"fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy, "w": c.width, "h": c.height, "aabb_scale": 16}
    path.write_text(json.dumps({**head, "k1": 0, "k2": 0, "p1": 0, "p2": 0, **top, "frames": frames}))


def nerfstudio(path: Path, images: Cameras, scale: float = 1.0) -> None:
    """As nerfstudio's COLMAP converter: a lens a frame, the world turned by `applied_transform`."""
    applied = np.array([[1.0, 0, 0, 0.5], [0, 0, 1.0, 0], [0, -1.0, 0, 0.25], [0, 0, 0, 1.0]])
    frames = []
    for image in images:
        moved = applied @ np.array(image.c2w) @ UP_BACK
        moved[:3, 3] *= scale
        c = image.camera
        lens = {"fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy, "w": c.width, "h": c.height}
        frames.append({"file_path": f"images/{image.name}", "transform_matrix": moved.tolist(), **lens})
    top: dict[str, Any] = {"camera_model": "OPENCV", "applied_transform": applied[:3].tolist()}
    if scale != 1.0:
        top["applied_scale"] = scale
    path.write_text(json.dumps({**top, "frames": frames}))


def blender(path: Path, images: Cameras, scale: float = 1.0) -> None:
    """As the Blender exporters of synthetic sets: one angle, names without suffix, the object's scale in the matrix."""
    angle = 2 * math.atan(0.5 * images[0].camera.width / images[0].camera.fx)
    frames = []
    for image in images:
        matrix = np.array(image.c2w) @ UP_BACK
        matrix[:3, :3] *= scale
        frames.append({"file_path": f"./train/{Path(image.name).stem}", "transform_matrix": matrix.tolist()})
    path.write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))


def metashape(path: Path, images: Cameras, scale: float = 1.0) -> None:
    """Agisoft Metashape's camera export: one sensor, poses in the chunk, the chunk's transform to the world."""
    c = images[0].camera
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    shift = np.array([3.0, -2.0, 1.0])
    lines = []
    for number, image in enumerate(images):
        world = np.array(image.c2w)
        local = world.copy()
        local[:3, :3] = turn.T @ world[:3, :3]
        local[:3, 3] = turn.T @ (world[:3, 3] - shift) / scale
        text = " ".join(repr(float(x)) for x in local.ravel())
        label = Path(image.name).stem
        lines.append(f'<camera id="{number}" sensor_id="0" label="{label}"><transform>{text}</transform></camera>')
    lines.append(f'<camera id="{len(images)}" sensor_id="0" label="not_aligned"/>')
    rotation = " ".join(repr(float(x)) for x in turn.ravel())
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="1.5.0"><chunk label="Chunk 1" enabled="true">'
        f'<sensors next_id="1"><sensor id="0" label="unknown" type="frame"><resolution width="{c.width}" '
        f'height="{c.height}"/><calibration type="frame" class="initial"><f>1.0</f></calibration>'
        f'<calibration type="frame" class="adjusted"><resolution width="{c.width}" height="{c.height}"/>'
        f"<f>{c.fx!r}</f><cx>{c.cx - c.width / 2!r}</cx><cy>{c.cy - c.height / 2!r}</cy></calibration></sensor>"
        f'</sensors><cameras next_id="99">{"".join(lines)}</cameras><transform><rotation locked="0">{rotation}'
        f"</rotation><translation>{' '.join(map(repr, map(float, shift)))}</translation><scale>{scale}</scale>"
        "</transform></chunk></document>\n"
    )


def realitycapture(path: Path, images: Cameras) -> None:
    """RealityCapture's internal/external camera parameters: heading, pitch and roll in a world with z up."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        names = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
        table.writerow(names.split(","))
        for image in images:
            c = image.camera
            edge = max(c.width, c.height)
            # R = Rz(-heading) Rx(pitch) Ry(roll), of a camera with y up that looks along -z
            r = (np.array(image.c2w) @ UP_BACK)[:3, :3]
            pitch = math.asin(max(-1.0, min(1.0, r[2, 1])))
            heading = math.atan2(r[0, 1], r[1, 1])
            roll = math.atan2(-r[2, 0], r[2, 2])
            angles = [math.degrees(angle) for angle in (heading, pitch, roll)]
            centre = [(c.cx - c.width / 2) / edge, (c.cy - c.height / 2) / edge]
            position = np.array(image.c2w)[:3, 3]
            table.writerow([image.name, *position, *angles, c.fx / edge * 36, *centre, 0, 0, 0, 0, 0, 0])
