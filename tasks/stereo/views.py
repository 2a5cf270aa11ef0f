"""Which photos a photo is compared with, and which depths are possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import Matrix4, PosedImage, project, transform_points
from tasks.stereo.estimate import DepthRange

FloatArray = npt.NDArray[np.float64]
BEST_ANGLE = 12.0
LEAST_ANGLE, MOST_ANGLE = 3.0, 65.0
"""Degrees between the rays of two photos: below, depth is uncertain; above, the photos look different."""
NARROWER, WIDER = 5.0, 15.0
"""Degrees off BEST_ANGLE at which a shared point counts exp(-1/2) (MVSNet's scores)."""
LEAST_SHARED = 8
MARGIN = 1.1
"""Depth ranges reach that much further than what they are known from."""


def visible_points(images: Sequence[PosedImage], xyz: FloatArray) -> npt.NDArray[np.bool_]:
    """[I, P] whether each point [P, 3] lies before each camera and inside its picture (occlusion is not known)."""
    seen = np.zeros((len(images), len(xyz)), bool)
    for k, image in enumerate(images):
        uv, depth = project(image.camera, image.c2w, xyz)
        seen[k] = (depth > 0) & (uv >= 0).all(1) & (uv < [image.camera.width, image.camera.height]).all(1)
    return seen


def choose_sources(
    images: Sequence[PosedImage], xyz: FloatArray, seen: npt.NDArray[np.bool_], most: int
) -> list[tuple[int, ...]]:
    """For each photo, the photos to compare it with, best first.

    Each point that both see adds a weight of its triangulation angle: a bell around 12 degrees, nothing outside of 3 to
    65 degrees; points that appear smaller in the other photo weigh less.

    Args:
        xyz: [P, 3] sparse points, or places that stand for them (`region_points`).
        seen: [I, P] which photo sees which point.
        most: sources of a photo at most.
    """
    centres = np.array([image.centre for image in images])
    focal = np.array([image.camera.fx for image in images])
    chosen = []
    for k in range(len(images)):
        scores = np.zeros(len(images))
        for j in range(len(images)):
            both = np.flatnonzero(seen[k] & seen[j])
            if j == k or len(both) < LEAST_SHARED:
                continue
            a, b = centres[k] - xyz[both], centres[j] - xyz[both]
            la, lb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
            angle = np.degrees(np.arccos(np.clip((a * b).sum(1) / (la * lb), -1.0, 1.0)))
            off = (angle - BEST_ANGLE) / np.where(angle < BEST_ANGLE, NARROWER, WIDER)
            finer = (focal[j] / lb) / (focal[k] / la)
            weight = np.exp(-0.5 * off**2) * np.minimum(finer, 1.0)
            scores[j] = weight[(angle >= LEAST_ANGLE) & (angle <= MOST_ANGLE)].sum()
        order = np.argsort(-scores, kind="stable")[:most]
        chosen.append(tuple(int(j) for j in order if scores[j] > 0))
    return chosen


def region_points(world_from_field: Matrix4) -> FloatArray:
    """[P, 3] places on a ball in the region: they stand for sparse points where a capture has none."""
    k = np.arange(200)
    z = 1.0 - (2.0 * k + 1.0) / len(k)
    angle = k * np.pi * (3.0 - np.sqrt(5.0))
    r = np.sqrt(1.0 - z**2)
    return transform_points(world_from_field, 0.5 * np.stack([r * np.cos(angle), r * np.sin(angle), z], 1))


def facing_points(images: Sequence[PosedImage], world_from_field: Matrix4, xyz: FloatArray) -> npt.NDArray[np.bool_]:
    """[I, P] which photo sees the front of the ball of `region_points`."""
    outwards = xyz - np.array(world_from_field)[:3, 3]
    front = [((image.centre - xyz) * outwards).sum(1) > 0 for image in images]
    return np.asarray(visible_points(images, xyz) & np.array(front))


def depth_range(
    image: PosedImage, world_from_field: Matrix4, xyz: FloatArray, seen: npt.NDArray[np.bool_]
) -> DepthRange:
    """The depths of one photo: the region's cube, and the sparse points [P, 3] that the photo sees, [P] `seen`.

    What lies behind the region is searched as well: a pixel beside the object must be able to find the background.
    """
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    cube = project(image.camera, image.c2w, transform_points(world_from_field, corners))[1]
    side = float(np.ptp(cube))
    least, most = max(float(cube.min()), 0.02 * side), max(float(cube.max()), 0.04 * side)
    if seen.any():
        depth = project(image.camera, image.c2w, xyz[seen])[1]
        near, far = np.quantile(depth[depth > 0], [0.01, 0.99]) if (depth > 0).any() else (least, most)
        least, most = max(least, 0.3 * float(near)), max(most, float(far))
    return DepthRange(least / MARGIN, most * MARGIN)


@dataclass(frozen=True)
class Plan:
    """What is compared with what, and where depth is searched; one entry a photo."""

    sources: list[tuple[int, ...]]
    ranges: list[DepthRange]


def make_plan(
    images: Sequence[PosedImage],
    world_from_field: Matrix4,
    xyz: FloatArray | None,
    seen: npt.NDArray[np.bool_] | None,
    most: int,
) -> Plan:
    """Sources and depth ranges from the sparse points; without any, from a ball in the region.

    Args:
        xyz: [P, 3] sparse points.
        seen: [I, P] which photo sees which point.
        most: sources of a photo at most.
    """
    if xyz is None or seen is None or not len(xyz):
        xyz = region_points(world_from_field)
        seen = facing_points(images, world_from_field, xyz)
    ranges = [depth_range(image, world_from_field, xyz, row) for image, row in zip(images, seen, strict=True)]
    return Plan(choose_sources(images, xyz, seen, most), ranges)
