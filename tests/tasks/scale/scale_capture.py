"""A context for the scale stage: cameras with known lenses, the photos that they took, points marked in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infra.storage import FolderStore
from models.camera import LensSet, PosedImage, PoseSet, matrix4
from models.digest import canonical_json
from models.photos import IngestedPhoto, PhotoIndex
from models.results import StageRequest
from models.stage import Stage
from tasks import registry
from tasks.context import Context
from tasks.pose.undistort import lens_record, pinhole_of
from tasks.sample.scenes import look_at
from tests.support import make_context, ref_of

import pycolmap  # isort: skip

POINTS = np.array([[0.3, 0.0, 0.1], [0.0, 0.4, 0.1]])
"""Two points 0.5 units apart."""
EYES = np.array([[3, 0, 1], [2, 2, 1.2], [0, 3, 1], [-2, 2, 0.8], [2, -2, 1.1]], dtype=np.float64)
GIVEN = {"distance_m": 0.12, "uncertainty_m": 0.0006}


def lens(k1: float = -0.12, width: int = 320, height: int = 240) -> Any:
    """A pycolmap.Camera; with `k1` alone to be 0 it has no distortion at all."""
    camera = pycolmap.Camera.create_from_model_name(1, "OPENCV", 300.0, width, height)
    bent = [k1, 0.02, 0.001, -0.002] if k1 else [0.0, 0.0, 0.0, 0.0]
    camera.params = [300.0, 304.0, width / 2 + 4, height / 2 - 3, *bent]
    return camera


def write_capture(store: Path, camera: Any, units: str = "arbitrary") -> None:
    """`ingest/photos.json`, `pose/poses.json` and `pose/lenses.json` of five photos, stored at half their size."""
    made = pinhole_of(camera)
    names = [f"p{k}.jpg" for k in range(len(EYES))]
    photos = [
        IngestedPhoto(
            name=name,
            file=f"images/{name}",
            width=camera.width,
            height=camera.height,
            source_width=2 * camera.width,
            source_height=2 * camera.height,
            camera_key="k",
            sharpness=0.5,
            source_sha256="0" * 64,
        )
        for name in (*names, "unregistered.jpg")
    ]
    images = tuple(
        PosedImage(name=name, camera=made.camera, c2w=matrix4(look_at(eye)))
        for name, eye in zip(names, EYES, strict=True)
    )
    poses = PoseSet.model_validate({"images": images, "world_from_field": matrix4(np.eye(4)), "units": units})
    lenses = () if made.lens is None else tuple(lens_record(name, made.lens) for name in names)
    for path, record in (
        ("ingest/photos.json", PhotoIndex(photos=tuple(photos))),
        ("pose/poses.json", poses),
        ("pose/lenses.json", LensSet(lenses=lenses)),
    ):
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_bytes(canonical_json(record))


def marks(camera: Any, noise_px: float = 0.0) -> dict[str, Any]:
    """Both points as they are marked in all photos, in pixels of the photos before they were made smaller."""
    rng = np.random.default_rng(0)
    found: list[dict[str, tuple[float, float]]] = [{}, {}]
    for k, eye in enumerate(EYES):
        c2w = look_at(eye)
        for mark, point in zip(found, POINTS, strict=True):
            local = c2w[:3, :3].T @ (point - c2w[:3, 3])
            pixel = 2.0 * camera.img_from_cam(local[None])[0] + rng.normal(0, 2 * noise_px, 2)
            mark[f"p{k}.jpg"] = (float(pixel[0]), float(pixel[1]))
    return {"a": {"pixels": found[0]}, "b": {"pixels": found[1]}}


def scale_context(folder: Path, store: Path, method: str, **options: Any) -> Context:
    """A context for one kind of scale on what `write_capture` wrote."""
    chosen = registry.effective_options(Stage.SCALE, method, "preview", options)
    request = StageRequest(
        asset="box",
        stage=Stage.SCALE,
        method=method,
        version="1",
        options=chosen.model_dump(mode="json"),
        inputs={name: ref_of(store / name, f"store:{name}") for name in ("ingest", "pose")},
    )
    return make_context(request, folder, FolderStore(store))
