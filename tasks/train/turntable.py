"""What people look at: a picture of a representation from one of its photos' cameras, or a video around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, FloatArray, PoseSet, similarity_scale
from models.errors import DigitizeError, ReasonCode
from models.representation import SOLID, Render, Representation

What = Literal["rgb", "depth", "normals"]
DISTANCE, ELEVATION_DEG = 3.0, 20.0
"""Of the camera from the middle of the cube, in field units, and above the horizon."""
FOCAL = 1.4
"""In lengths of the picture's edge: the ball around the middle that touches the cube's faces just fits."""
FRAMES_A_SECOND = 30
BACKDROP = 1.0


def orbit(poses: PoseSet, frames: int) -> list[FloatArray]:
    """[4, 4] c2w each, of cameras on a circle about the region's vertical axis, towards its middle."""
    similarity = np.asarray(poses.world_from_field, dtype=np.float64)
    middle, reach = similarity[:3, 3], DISTANCE * similarity_scale(similarity)
    up = np.asarray(poses.up) / np.linalg.norm(poses.up)
    ahead = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    ahead /= np.linalg.norm(ahead)
    aside, elevation = np.cross(up, ahead), np.radians(ELEVATION_DEG)
    views = []
    for angle in np.arange(frames) * (2.0 * np.pi / frames):
        level = np.cos(angle) * ahead + np.sin(angle) * aside
        away = np.cos(elevation) * level + np.sin(elevation) * up
        right = np.cross(up, away)
        right /= np.linalg.norm(right)
        c2w = np.eye(4)
        c2w[:3, :3] = np.stack([right, np.cross(-away, right), -away], 1)
        c2w[:3, 3] = middle + reach * away
        views.append(c2w)
    return views


def shown(picture: Render, what: What) -> npt.NDArray[np.uint8]:
    """[H, W, 3] uint8: colour; depth with the nearest white and nothing black; or normals as (n + 1) / 2."""
    solid = picture.opacity >= SOLID
    if what == "rgb":
        values = picture.rgb
    elif what == "normals" and picture.normals is not None:
        values = np.where(solid[..., None], 0.5 * (picture.normals + 1.0), 0.0)
    else:
        depth = picture.depth[solid]
        low, high = (float(depth.min()), float(depth.max())) if depth.size else (0.0, 1.0)
        grey = 1.0 - 0.8 * (np.where(solid, picture.depth, high) - low) / max(high - low, 1e-9)
        values = np.repeat((grey * solid)[..., None], 3, axis=2)
    return np.round(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def still(
    model: Representation,
    poses: PoseSet,
    path: Path,
    view: int,
    what: What = "rgb",
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write the picture (format by the name) that the camera of photo number `view` takes, at the photo's size.

    Raises:
        DigitizeError(source_not_found): there is no such photo.
    """
    if not 0 <= view < len(poses.images):
        raise DigitizeError(
            ReasonCode.SOURCE_NOT_FOUND, f"expected a view from 0 to {len(poses.images) - 1}, found {view}"
        )
    image = poses.images[view]
    picture = model.render(image.camera, image.c2w, poses.world_from_field, check, normals=what == "normals")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shown(picture, what)).save(path)


def turntable(
    model: Representation,
    poses: PoseSet,
    path: Path,
    frames: int = 120,
    size: int = 512,
    what: What = "rgb",
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write an H.264 video of one turn around the cube, before white.

    Args:
        size: edge of the picture in pixels, even.
        check: called before each tile of each frame; may raise to stop.
    """
    import av

    if size % 2:
        raise ValueError(f"expected an even size, found {size}")
    camera = Camera(width=size, height=size, fx=FOCAL * size, fy=FOCAL * size, cx=size / 2, cy=size / 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libx264", rate=FRAMES_A_SECOND, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for c2w in orbit(poses, frames):
            picture = model.render(
                camera, c2w, poses.world_from_field, check, normals=what == "normals", backdrop=BACKDROP
            )
            video.mux(stream.encode(av.VideoFrame.from_ndarray(shown(picture, what), format="rgb24")))
        video.mux(stream.encode())
