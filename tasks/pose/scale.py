"""The size in metres, from two marked points a known distance apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.camera import FloatArray
from models.errors import DigitizeError, ReasonCode
from models.spec import MarkedPoint, Scale
from tasks.pose.base import Model

_MARKING_PX = 1.0
_MAX_RESIDUAL = 0.02
_ROUNDS = 8


@dataclass(frozen=True)
class Measured:
    """The scale found."""

    metres_per_unit: float
    uncertainty: float
    """Relative standard deviation."""
    residual_px: float
    """Root mean square distance, in stored pixels, between the marks and the triangulated points."""


@dataclass(frozen=True)
class _Located:
    point: FloatArray
    covariance: FloatArray
    residual_px: float


def measure_scale(scale: Scale, model: Model) -> Measured:
    """Metres per world unit by triangulating both marked points with the solved cameras.

    Raises DigitizeError(scale_unsolved) naming the marks that cannot be used.
    """
    if scale.a is None or scale.b is None or scale.distance_m is None:
        raise DigitizeError(ReasonCode.SCALE_UNSOLVED, "expected distance_m and the points a and b")
    a, b = _locate("a", scale.a, model), _locate("b", scale.b, model)
    gap = a.point - b.point
    distance = float(np.linalg.norm(gap))
    reach = float(np.median(np.linalg.norm(model.centres - a.point, axis=1)))
    if distance < 1e-6 * reach:
        raise DigitizeError(ReasonCode.SCALE_UNSOLVED, "expected two points apart, found a and b at the same place")
    along = gap / distance
    spread = float(np.sqrt(along @ (a.covariance + b.covariance) @ along)) / distance
    given = scale.uncertainty_m / scale.distance_m
    return Measured(scale.distance_m / distance, float(np.hypot(spread, given)), max(a.residual_px, b.residual_px))


def _locate(name: str, marked: MarkedPoint, model: Model) -> _Located:
    index = {photo.name: i for i, photo in enumerate(model.photos)}
    used = sorted(photo for photo in marked.pixels if photo in index)
    missing = sorted(set(marked.pixels) - set(used))
    if len(used) < 2:
        raise DigitizeError(
            ReasonCode.SCALE_UNSOLVED,
            f"point {name}: expected marks in two registered photos or more, found {len(used)}; "
            f"not registered or not in the capture: {', '.join(missing)}",
        )
    views = [index[photo] for photo in used]
    local, pixel_size = [], []
    for view, photo in zip(views, used, strict=True):
        stored, camera = model.photos[view], model.cameras[view]
        factor = [stored.width / stored.source_width, stored.height / stored.source_height]
        pixel = np.array(marked.pixels[photo]) * factor
        if not ((pixel >= 0).all() and (pixel <= [stored.width, stored.height]).all()):
            raise DigitizeError(
                ReasonCode.SCALE_UNSOLVED,
                f"point {name}: expected a mark inside {photo} ({stored.source_width}x{stored.source_height}), "
                f"found {marked.pixels[photo]}",
            )
        local.append(np.asarray(camera.cam_from_img(pixel[None])).reshape(2))
        pixel_size.append(1.0 / camera.mean_focal_length())
    return _triangulate(name, model.c2w[views], np.array(local), np.array(pixel_size), model)


def _triangulate(name: str, c2w: FloatArray, local: FloatArray, pixel_size: FloatArray, model: Model) -> _Located:
    """Least squares in the normalised image plane: linear start, then Gauss-Newton."""
    rays = np.einsum("nij,nj->ni", c2w[:, :3, :3], np.concatenate([local, np.ones((len(local), 1))], 1))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    normal = across.sum(0)
    if np.linalg.eigvalsh(normal)[0] < 1e-5 * len(rays):
        raise DigitizeError(
            ReasonCode.SCALE_UNSOLVED,
            f"point {name}: expected marks seen from different directions, found parallel rays",
        )
    point = np.linalg.solve(normal, np.einsum("nij,nj->i", across, c2w[:, :3, 3]))
    for _ in range(_ROUNDS):
        residual, jacobian = _residuals(point, c2w, local, pixel_size)
        point = point - np.linalg.lstsq(jacobian, residual, rcond=None)[0]
    residual, jacobian = _residuals(point, c2w, local, pixel_size)
    rms = float(np.sqrt((residual**2).sum() / len(local)))
    width = max(photo.width for photo in model.photos)
    depth = np.einsum("nj,nj->n", point - c2w[:, :3, 3], c2w[:, :3, 2])
    if not np.isfinite(rms) or rms > _MAX_RESIDUAL * width or (depth <= 0).any():
        raise DigitizeError(
            ReasonCode.SCALE_UNSOLVED,
            f"point {name}: expected marks of one physical point, found marks {rms:.0f} px apart from it",
        )
    sigma = max(_MARKING_PX, rms)
    return _Located(point, np.asarray(sigma**2 * np.linalg.inv(jacobian.T @ jacobian), dtype=np.float64), rms)


def _residuals(
    point: FloatArray, c2w: FloatArray, local: FloatArray, pixel_size: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """[2V] residuals in pixels and their [2V, 3] derivative by the point."""
    seen = np.einsum("nji,nj->ni", c2w[:, :3, :3], point - c2w[:, :3, 3])
    z = np.where(np.abs(seen[:, 2]) < 1e-12, 1e-12, seen[:, 2])
    flat = seen[:, :2] / z[:, None]
    residual = (flat - local) / pixel_size[:, None]
    by_local = np.zeros((len(z), 2, 3))
    by_local[:, 0, 0] = by_local[:, 1, 1] = 1.0 / z
    by_local[:, :, 2] = -flat / z[:, None]
    jacobian = np.einsum("nij,nkj->nik", by_local, c2w[:, :3, :3]) / pixel_size[:, None, None]
    return residual.ravel(), jacobian.reshape(-1, 3)
