"""A COLMAP reconstruction as plain arrays, and the figures that say how good it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.camera import FloatArray, apply_similarity_to_c2w, transform_points
from models.points import SparsePoints
from tasks.pose.base import Capture, Model

_PARALLAX_POINTS = 4000


def read_model(reconstruction: Any, capture: Capture) -> Model:
    """The registered images of a pycolmap.Reconstruction, in the order of the capture's photos, and its points."""
    by_name = {image.name: image for image in reconstruction.images.values() if image.has_pose}
    photos = tuple(photo for photo in capture.photos if photo.key in by_name)
    images = [by_name[photo.key] for photo in photos]
    order = {image.image_id: index for index, image in enumerate(images)}
    c2w = np.tile(np.eye(4), (len(images), 1, 1))
    for matrix, image in zip(c2w, images, strict=True):
        matrix[:3] = image.cam_from_world().inverse().matrix()
    cameras = tuple(reconstruction.cameras[image.camera_id] for image in images)
    return Model(photos, c2w, cameras, _read_points(reconstruction, order))


def _read_points(reconstruction: Any, order: dict[int, int]) -> SparsePoints:
    xyz, rgb, error, visible = [], [], [], []
    for point_id in sorted(reconstruction.points3D):
        point = reconstruction.points3D[point_id]
        seen = sorted({order[element.image_id] for element in point.track.elements if element.image_id in order})
        if len(seen) >= 2 and np.isfinite(point.xyz).all():
            xyz.append(point.xyz)
            rgb.append(point.color)
            error.append(point.error)
            visible.append(seen)
    lengths = np.array([0, *(len(seen) for seen in visible)], np.int64)
    return SparsePoints(
        np.array(xyz, np.float64).reshape(-1, 3),
        np.array(rgb, np.uint8).reshape(-1, 3),
        np.array(error, np.float32),
        np.cumsum(lengths),
        np.array([index for seen in visible for index in seen], np.int32),
    )


def shown_and_helping(model: Model) -> tuple[Model, Model]:
    """The photos that the asset is made from with the points that two or more of them see, and those for alignment only
    without points."""
    helps = [photo.alignment_only for photo in model.photos]
    shown = [index for index, only in enumerate(helps) if not only]
    if len(shown) == len(helps):
        return model, _part(model, [], _NO_POINTS)
    points, number = model.points, {index: place for place, index in enumerate(shown)}
    starts = zip(points.visible_ptr[:-1], points.visible_ptr[1:], strict=True)
    seen = [[number[k] for k in points.visible_idx[a:b].tolist() if k in number] for a, b in starts]
    kept = np.array([len(each) >= 2 for each in seen], dtype=bool)
    views = [each for each in seen if len(each) >= 2]
    part = SparsePoints(
        points.xyz[kept],
        points.rgb[kept],
        points.error[kept],
        np.cumsum([0, *(len(each) for each in views)], dtype=np.int64),
        np.array([index for each in views for index in each], np.int32),
    )
    return _part(model, shown, part), _part(model, [index for index, only in enumerate(helps) if only], _NO_POINTS)


_NO_POINTS = SparsePoints(
    np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32), np.zeros(1, np.int64), np.zeros(0, np.int32)
)


def _part(model: Model, chosen: list[int], points: SparsePoints) -> Model:
    photos, cameras = tuple(model.photos[k] for k in chosen), tuple(model.cameras[k] for k in chosen)
    return Model(photos, model.c2w[chosen].reshape(-1, 4, 4), cameras, points)


def move_model(similarity: FloatArray, model: Model) -> Model:
    """The model after its world moves by a [4, 4] similarity."""
    points = model.points
    moved = SparsePoints(
        transform_points(similarity, points.xyz), points.rgb, points.error, points.visible_ptr, points.visible_idx
    )
    c2w = np.array([apply_similarity_to_c2w(similarity, matrix) for matrix in model.c2w]).reshape(-1, 4, 4)
    return Model(model.photos, c2w, model.cameras, moved)


def similarity(rotation: FloatArray, scale: float, origin: FloatArray) -> FloatArray:
    """[4, 4] map x -> scale * rotation (x - origin). `rotation` is [3, 3], `origin` [3]."""
    m = np.eye(4)
    m[:3, :3] = scale * rotation
    m[:3, 3] = -scale * rotation @ origin
    return m


def parallax_deg(model: Model) -> float:
    """Median over the points of the widest angle, in degrees, between two of the rays that see a point.

    Measured on up to 4,000 points spread over all of them; 0 without points.
    """
    points = model.points
    if not len(points.xyz):
        return 0.0
    step = max(1, len(points.xyz) // _PARALLAX_POINTS)
    widest = []
    for index in range(0, len(points.xyz), step):
        seen = points.visible_idx[points.visible_ptr[index] : points.visible_ptr[index + 1]]
        rays = model.centres[seen] - points.xyz[index]
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
        widest.append(float((rays @ rays.T).min()))
    return float(np.degrees(np.median(np.arccos(np.clip(widest, -1.0, 1.0)))))


def pose_metrics(model: Model | None, photos: int) -> dict[str, float]:
    """The metrics of models.quality.POSE_METRICS; those of points are left out when there are no points."""
    registered = len(model.photos) if model else 0
    values = {"registered_images": float(registered), "registered_share": registered / max(photos, 1)}
    if model and len(model.points.xyz):
        values["reprojection_error_px"] = float(np.average(model.points.error, weights=model.points.views))
        values["track_length"] = float(model.points.views.mean())
        values["parallax_deg"] = parallax_deg(model)
    return values
