"""Points that are marked in photos, in the capture's world: triangulated with the solved cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.camera import FloatArray, Lens, LensSet, PosedImage, PoseSet
from models.errors import DigitizeError, ReasonCode
from models.photos import IngestedPhoto, PhotoIndex
from models.scale import MarkedPoint

MARKING_PX = 1.0
"""Standard deviation of a mark, at least, in pixels of the stored photo."""
MAX_RESIDUAL = 0.02
"""Share of the widest photo beyond which marks are not of one point."""
ROUNDS = 8


@dataclass(frozen=True)
class Mark:
    """One mark."""

    name: str
    """The photo as the user called it."""
    pixel: tuple[float, float]
    size: tuple[int, int]
    """Width and height of that photo."""


@dataclass(frozen=True)
class Located:
    """A marked point in the world."""

    point: FloatArray
    """[3]"""
    covariance: FloatArray
    """[3, 3]"""
    residual_px: float
    """Root mean square distance between the marks and the point as the cameras see it, in pixels of stored photos."""
    lost: tuple[str, ...] = ()
    """Marks that could not be used, each with the reason."""


class MarkedPhotos:
    """The registered photos as they were marked: stored sizes, and the lens that each was undistorted with."""

    def __init__(self, poses: PoseSet, index: PhotoIndex, lenses: LensSet) -> None:
        self.images: dict[str, PosedImage] = {image.name: image for image in (*poses.images, *poses.alignment)}
        self._index = index
        self._stored: dict[str, IngestedPhoto] = {photo.name: photo for photo in index.photos}
        self._lenses: dict[str, Lens] = {lens.name: lens for lens in lenses.lenses}

    @property
    def centres(self) -> FloatArray:
        """[N, 3] camera centres in the world."""
        return np.array([image.centre for image in self.images.values()])

    @property
    def widest(self) -> int:
        """Pixels along the widest stored photo of those that are registered."""
        return max(self._stored[name].width for name in self.images)

    def marks(self, marked: MarkedPoint) -> tuple[dict[str, Mark], tuple[str, ...]]:
        """A point's marks by the photo's name in the capture, and those that cannot be used, each with the reason."""
        used, lost = {}, []
        for name, pixel in sorted(marked.pixels.items()):
            found = self._index.find(name)
            if found is None:
                lost.append(f"{name}: no photo of the capture, or one that was left out")
            elif found[0].name not in self.images:
                lost.append(f"{name}: its camera was not found")
            elif found[0].name in used:
                lost.append(f"{name}: the same picture as {found[0].name}, which is marked as well")
            else:
                used[found[0].name] = Mark(name, pixel, found[1])
        return used, tuple(lost)

    def stored_pixel(self, photo: str, mark: Mark) -> FloatArray | None:
        """[2] a mark as a pixel of the stored photo; None beyond its edges."""
        stored = self._stored[photo]
        size = np.array([stored.width, stored.height], dtype=np.float64)
        found = np.array(mark.pixel) * size / mark.size
        return found if bool((found >= 0).all() and (found <= size).all()) else None

    def ray(self, photo: str, pixel: FloatArray) -> tuple[FloatArray, float]:
        """Where a pixel [2] of a stored photo lies in the plane z = 1 of its camera, [2], and a pixel's size there."""
        lens = self._lenses.get(photo)
        if lens is None:
            camera = self.images[photo].camera
            local = (pixel - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
            return local, 2.0 / (camera.fx + camera.fy)
        from PIL import Image  # noqa: F401  before pycolmap

        import pycolmap  # isort: skip

        distorted = pycolmap.Camera.create_from_model_name(1, lens.model, 1.0, lens.width, lens.height)
        distorted.params = list(lens.params)
        local = np.asarray(distorted.cam_from_img(pixel[None]), dtype=np.float64).reshape(2)
        return local, 1.0 / float(distorted.mean_focal_length())


def locate(name: str, marked: MarkedPoint, photos: MarkedPhotos) -> Located:
    """Where a marked point lies.

    Args:
        name: of the point, for messages.

    Raises DigitizeError(scale_unsolved) where its marks do not tell, naming the photos concerned.
    """
    marks, lost = photos.marks(marked)
    used = sorted(marks)
    if len(used) < 2:
        raise DigitizeError(
            ReasonCode.SCALE_UNSOLVED,
            f"point {name}: expected marks in two registered photos or more, found {len(used)}; "
            f"not used: {'; '.join(lost)}",
        )
    local, pixel_size = [], []
    for photo in used:
        mark = marks[photo]
        pixel = photos.stored_pixel(photo, mark)
        if pixel is None:
            raise DigitizeError(
                ReasonCode.SCALE_UNSOLVED,
                f"point {name}: expected a mark inside {mark.name} ({mark.size[0]}x{mark.size[1]}), found {mark.pixel}",
            )
        place, size = photos.ray(photo, pixel)
        local.append(place)
        pixel_size.append(size)
    c2w = np.array([photos.images[photo].c2w for photo in used])
    found = _triangulate(name, c2w, np.array(local), np.array(pixel_size), MAX_RESIDUAL * photos.widest)
    return replace(found, lost=lost)


def _triangulate(name: str, c2w: FloatArray, local: FloatArray, pixel_size: FloatArray, largest_px: float) -> Located:
    """Least squares in the normalised image plane: linear start, then Gauss-Newton.

    Args:
        c2w: [V, 4, 4]
        local: [V, 2] marks in the plane z = 1 before each camera.
        pixel_size: [V] of each stored photo in that plane.
        largest_px: residual beyond which the marks are not of one point.
    """
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
    for _ in range(ROUNDS):
        residual, jacobian = _residuals(point, c2w, local, pixel_size)
        point = point - np.linalg.lstsq(jacobian, residual, rcond=None)[0]
    residual, jacobian = _residuals(point, c2w, local, pixel_size)
    rms = float(np.sqrt((residual**2).sum() / len(local)))
    depth = np.einsum("nj,nj->n", point - c2w[:, :3, 3], c2w[:, :3, 2])
    if not np.isfinite(rms) or rms > largest_px or (depth <= 0).any():
        raise DigitizeError(
            ReasonCode.SCALE_UNSOLVED,
            f"point {name}: expected marks of one physical point, found marks {rms:.0f} px apart from it",
        )
    sigma = max(MARKING_PX, rms)
    return Located(point, np.asarray(sigma**2 * np.linalg.inv(jacobian.T @ jacobian), dtype=np.float64), rms)


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
