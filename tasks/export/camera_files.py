"""The solved cameras in the formats that other programs read: `transforms.json` and COLMAP's text files.

They describe the undistorted pictures, in the world of the `poses.json` beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from models.artifacts import COLMAP_FILES, TRANSFORMS_FILE
from models.camera import PosedImage, PoseSet, project
from models.digest import canonical_json
from models.points import SparsePoints

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""From OpenGL's camera axes (x right, y up, z backward) to ours."""


def write_archive(output: Path, poses: PoseSet, points: SparsePoints | None) -> None:
    """Write `transforms.json` and, where there are sparse points, `colmap/*.txt` into `output`. Equal poses give equal
    bytes."""
    (output / TRANSFORMS_FILE).write_bytes(canonical_json(transforms(poses)))
    if points is None:
        return
    texts = (_cameras(poses), _images(poses, points), _points(points))
    for name, lines in zip(COLMAP_FILES, texts, strict=True):
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def transforms(poses: PoseSet) -> dict[str, Any]:
    """`transforms.json` as Instant-NGP and nerfstudio read it: camera to world in OpenGL's axes, a frame a photo."""
    frames = []
    for image in poses.images:
        camera = image.camera
        frames.append(
            {
                "file_path": _picture(image),
                "w": camera.width,
                "h": camera.height,
                "fl_x": camera.fx,
                "fl_y": camera.fy,
                "cx": camera.cx,
                "cy": camera.cy,
                "transform_matrix": (np.array(image.c2w) @ _OPENGL).tolist(),
            }
        )
    return {"camera_model": "PINHOLE", "frames": frames}


def _picture(image: PosedImage) -> str:
    return image.image or image.name


def _cameras(poses: PoseSet) -> list[str]:
    """`cameras.txt`: a camera a photo, so that refined lenses stay each photo's own."""
    rows = []
    for number, image in enumerate(poses.images, 1):
        camera = image.camera
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
        rows.append(f"{number} PINHOLE {camera.width} {camera.height} {_text(numbers)}")
    return rows


def _images(poses: PoseSet, points: SparsePoints) -> list[str]:
    """`images.txt`: world to camera, then where the photo sees which points."""
    rows = []
    for index, image in enumerate(poses.images):
        w2c = np.linalg.inv(np.array(image.c2w))
        x, y, z, w = Rotation.from_matrix(w2c[:3, :3]).as_quat()
        name = Path(_picture(image)).name
        rows.append(f"{index + 1} {_text((w, x, y, z, *w2c[:3, 3]))} {index + 1} {name}")
        seen = points.seen_by(index)
        uv, _ = project(image.camera, image.c2w, points.xyz[seen])
        rows.append(" ".join(f"{u:.4f} {v:.4f} {point + 1}" for (u, v), point in zip(uv, seen, strict=True)))
    return rows


def _points(points: SparsePoints) -> list[str]:
    """`points3D.txt`: each point with the photos that see it, and its number among theirs."""
    slots = np.empty(len(points.visible_idx), np.int64)
    for index in np.unique(points.visible_idx):
        mine = points.visible_idx == index
        slots[mine] = np.arange(mine.sum())
    rows = []
    for number, (xyz, rgb, error) in enumerate(zip(points.xyz, points.rgb, points.error, strict=True)):
        own = slice(points.visible_ptr[number], points.visible_ptr[number + 1])
        track = " ".join(f"{k + 1} {s}" for k, s in zip(points.visible_idx[own], slots[own], strict=True))
        rows.append(f"{number + 1} {_text(xyz)} {rgb[0]} {rgb[1]} {rgb[2]} {float(error):.6g} {track}")
    return rows


def _text(numbers: Any) -> str:
    return " ".join(repr(float(number)) for number in numbers)
