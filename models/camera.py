"""Cameras and poses, and the ONE place where axis conventions meet.

Conventions (docs/conventions.md): `c2w` is a 4x4 camera-to-world matrix with OpenCV axes (x right, y down, z
forward); `K` is in pixels and pixel (0, 0) has its centre at (0.5, 0.5); the world is the capture's frame, in its own
units up to the stage `export`; a field lives in [-1, 1]^3 and `world_from_field` is the similarity between the two.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.record import Record

FloatArray = npt.NDArray[np.float64]
Row4 = tuple[float, float, float, float]
Matrix4 = tuple[Row4, Row4, Row4, Row4]
Vector3 = tuple[float, float, float]

OPENGL_FROM_OPENCV: FloatArray = np.diag([1.0, -1.0, -1.0, 1.0])
"""Camera axes: OpenCV (y down, z forward) to OpenGL and Blender (y up, z backward). It is its own inverse."""


class Camera(Record):
    """A pinhole camera without distortion. Lengths in pixels, pixel centres at +0.5."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float

    @property
    def K(self) -> FloatArray:  # noqa: N802 - the field's name
        """[3, 3] intrinsic matrix in pixels."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same picture resampled to `width` x `height` pixels."""
        sx, sy = width / self.width, height / self.height
        return Camera(width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy)


class Lens(Record):
    """The camera of a photo as it was taken in, before it was undistorted. Lengths in pixels, pixel centres at +0.5."""

    name: str
    """The photo's name in the capture."""
    model: str
    """COLMAP's name of the lens model."""
    params: tuple[float, ...]
    """COLMAP's parameters of that model."""
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class LensSet(Record):
    """The lenses of those photos of a capture that were undistorted; the others were left as they were. File:
    `lenses.json`."""

    lenses: tuple[Lens, ...] = ()


class PosedImage(Record):
    """One picture with its camera."""

    name: str
    """The photo's name in the capture, its identity across stages."""
    camera: Camera
    c2w: Matrix4
    image: str | None = None
    """Path of the undistorted picture inside the stage's outputs (8-bit sRGB)."""
    mask: str | None = None
    """Path of the 8-bit mask beside it: 255 where the picture may be used."""
    split: Literal["train", "heldout"] = "train"

    @property
    def centre(self) -> FloatArray:
        """[3] camera centre in the world."""
        return np.array(self.c2w)[:3, 3]


class Plane(Record):
    """The plane of the support (table, mat): normal . x + offset = 0; the normal points at the object's side."""

    normal: Vector3
    offset: float


class CameraSet(Record):
    """Cameras alone: known poses given by the user, or the truth beside a synthetic capture."""

    images: tuple[PosedImage, ...]


class PoseSet(Record):
    """What the pose stage hands on: the geometry of one capture. File: `poses.json`."""

    images: tuple[PosedImage, ...]
    alignment: tuple[PosedImage, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Photos for alignment only: their cameras, without pictures. Marks in them count."""
    world_from_field: Matrix4
    """Similarity that takes the field's cube [-1, 1]^3 to the region of interest in the world."""
    units: Literal["metre", "arbitrary"] = "arbitrary"
    """Of the world: the metre where poses were given in metres, and in what the export stage writes of known size."""
    scale_source: str = "none"
    """What says that the unit is the metre: `poses`, or a kind of scale in what the export stage writes."""
    scale_uncertainty: float | None = None
    """Relative standard deviation of the scale, where it is known."""
    up: Vector3 = (0.0, 0.0, 1.0)
    """Unit vector in the world that points up."""
    support: Plane | None = None
    mask_tolerance_px: float = 0.0
    """How far the outlines of masks may lie beside the object's: 0 for masks given, more for those found by the mask
    stage. What bounds the shape by masks should allow for it."""

    def of_split(self, split: Literal["train", "heldout"]) -> tuple[PosedImage, ...]:
        """The images of one split, in order."""
        return tuple(image for image in self.images if image.split == split)


def matrix4(array: npt.ArrayLike) -> Matrix4:
    """A [4, 4] array as the nested tuples that records hold. Raises ValueError on another shape."""
    values = np.asarray(array, dtype=np.float64)
    if values.shape != (4, 4):
        raise ValueError(f"expected a 4x4 matrix, found shape {values.shape}")
    rows = [(float(r[0]), float(r[1]), float(r[2]), float(r[3])) for r in values]
    return (rows[0], rows[1], rows[2], rows[3])


def transform_points(matrix: npt.ArrayLike, points: npt.ArrayLike) -> FloatArray:
    """[N, 3] points through a [4, 4] affine matrix."""
    m, x = np.asarray(matrix, dtype=np.float64), np.asarray(points, dtype=np.float64)
    moved: FloatArray = x @ m[:3, :3].T + m[:3, 3]
    return moved


def similarity_scale(matrix: npt.ArrayLike) -> float:
    """The uniform scale of a [4, 4] similarity."""
    m = np.asarray(matrix, dtype=np.float64)
    return float(np.cbrt(np.linalg.det(m[:3, :3])))


def invert_rigid(c2w: npt.ArrayLike) -> FloatArray:
    """[4, 4] inverse of a rigid [4, 4] transform (c2w -> w2c)."""
    m = np.asarray(c2w, dtype=np.float64)
    inverse = np.eye(4)
    inverse[:3, :3] = m[:3, :3].T
    inverse[:3, 3] = -m[:3, :3].T @ m[:3, 3]
    return inverse


def apply_similarity_to_c2w(similarity: npt.ArrayLike, c2w: npt.ArrayLike) -> FloatArray:
    """Camera pose after the world moves by a similarity: the centre is moved and scaled, the rotation stays rigid."""
    s, m = np.asarray(similarity, dtype=np.float64), np.asarray(c2w, dtype=np.float64)
    moved = np.eye(4)
    moved[:3, :3] = s[:3, :3] / similarity_scale(s) @ m[:3, :3]
    moved[:3, 3] = transform_points(s, m[None, :3, 3])[0]
    return moved


def pixel_rays(
    camera: Camera, c2w: npt.ArrayLike, pixels: npt.ArrayLike | None = None
) -> tuple[FloatArray, FloatArray]:
    """Rays through pixels.

    Args:
        pixels: [N, 2] positions (u right, v down) in pixels, centres at +0.5; every pixel centre, row by row, if None.

    Returns:
        rays_o [N, 3] and rays_d [N, 3] in the world, rays_d of unit length.
    """
    if pixels is None:
        v, u = np.mgrid[0 : camera.height, 0 : camera.width]
        pixels = np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1)
    uv, m = np.asarray(pixels, dtype=np.float64), np.asarray(c2w, dtype=np.float64)
    local = np.stack([(uv[:, 0] - camera.cx) / camera.fx, (uv[:, 1] - camera.cy) / camera.fy, np.ones(len(uv))], 1)
    rays_d = local @ m[:3, :3].T
    rays_d /= np.linalg.norm(rays_d, axis=1, keepdims=True)
    return np.broadcast_to(m[:3, 3], rays_d.shape).copy(), rays_d


def project(camera: Camera, c2w: npt.ArrayLike, points: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """World points to pixels.

    Args:
        points: [N, 3] in the world.

    Returns:
        pixels [N, 2] (u, v) and depth [N] along the camera's z; pixels mean nothing where depth <= 0.
    """
    local = transform_points(invert_rigid(c2w), points)
    depth = local[:, 2]
    safe = np.where(np.abs(depth) < 1e-12, 1e-12, depth)
    pixels: FloatArray = local[:, :2] / safe[:, None] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    return pixels, depth


def rotation_between(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """[3, 3] smallest rotation that takes direction `a` [3] to direction `b` [3] (Rodrigues)."""
    u, v = (np.asarray(x, dtype=np.float64) / np.linalg.norm(x) for x in (a, b))
    cosine = float(u @ v)
    if cosine < -1.0 + 1e-12:
        axis = np.cross(u, np.eye(3)[int(np.argmin(np.abs(u)))])
        axis /= np.linalg.norm(axis)
        return np.asarray(2.0 * np.outer(axis, axis) - np.eye(3))
    w = np.cross(u, v)
    skew = np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    return np.asarray(np.eye(3) + skew + skew @ skew / (1.0 + cosine))


def gltf_from_world(up: Vector3) -> FloatArray:
    """[4, 4] rotation from the capture's frame to glTF's axes: `up` becomes +Y. Applied by exporters, nowhere else."""
    m = np.eye(4)
    m[:3, :3] = rotation_between(up, (0.0, 1.0, 0.0))
    return m
