"""Signed distances to a mesh on a grid of voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.camera import FloatArray, Matrix4, similarity_scale, transform_points
from models.mesh.mesh import IntArray, Mesh
from models.mesh.raycast import RayCaster
from tasks.stereo.tsdf import TRUNCATION, Grid

BoolArray = npt.NDArray[np.bool_]

BAND = 4
"""Voxels around the mesh in which distances are computed."""


def signed_grid(mesh: Mesh, world_from_field: Matrix4, resolution: int) -> Grid:
    """[R, R, R] distances to a mesh at voxel centres, in truncations, positive outside, within [-1, 1].

    Exact in a band around the mesh; each space between takes the sign of the band beside it. So the mesh may be open
    at the sides of its bounding box: nothing is inside beyond them.

    Args:
        mesh: faces towards the outside.
        world_from_field: the region, whose cube the voxels fill.
        resolution: voxels along the region's side.
    """
    from scipy.ndimage import label

    field_from_world = np.linalg.inv(np.array(world_from_field))
    local = (transform_points(field_from_world, mesh.vertices) + 1.0) * (resolution / 2.0)
    cell = np.floor(_spread(local, mesh.faces, float(BAND))).astype(np.int64)
    near = np.zeros((resolution,) * 3, bool)
    near[tuple(cell[((cell >= 0) & (cell < resolution)).all(1)].T)] = True
    near = dilated(near, BAND)
    points = transform_points(world_from_field, (np.argwhere(near) + 0.5) * (2.0 / resolution) - 1.0)
    truncation = TRUNCATION * 2.0 * similarity_scale(world_from_field) / resolution
    values = np.ones(near.shape, np.float32)
    values[near] = np.clip(_signed_distances(mesh, points) / truncation, -1.0, 1.0)
    box = tuple(
        slice(max(0, int(low) + 1), max(0, min(resolution, int(high))))
        for low, high in zip(cell.min(0), cell.max(0), strict=True)
    )
    label_of, count = label(~near[box])
    inside = _balance(label_of, near[box], values[box], count) > 0
    values[box][inside[label_of]] = -1.0
    return values


def dilated(voxels: BoolArray, steps: int) -> BoolArray:
    """The voxels [R, R, R], and those within some steps of one along each axis."""
    result = voxels.copy()
    for axis in range(3):
        grown, source = np.moveaxis(result, axis, 0), np.moveaxis(result.copy(), axis, 0)
        for step in range(1, steps + 1):
            grown[step:] |= source[:-step]
            grown[:-step] |= source[step:]
    return result


def _spread(vertices: FloatArray, faces: IntArray, edge: float) -> FloatArray:
    """[N, 3] the vertices, and points of the faces so dense that no part of a face is further than `edge` from one."""
    found, corners = [vertices], vertices[faces]
    while len(corners):
        a, b, c = (corners[:, k] for k in range(3))
        longest = np.maximum.reduce([((a - b) ** 2).sum(1), ((b - c) ** 2).sum(1), ((c - a) ** 2).sum(1)])
        a, b, c = (each[longest > edge**2] for each in (a, b, c))
        ab, bc, ca = (a + b) / 2.0, (b + c) / 2.0, (c + a) / 2.0
        found += [ab, bc, ca]
        corners = np.concatenate([np.stack(each, 1) for each in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return np.concatenate(found)


def _signed_distances(mesh: Mesh, points: FloatArray) -> FloatArray:
    """[N] distances of points [N, 3] to a mesh, positive on the side to which the nearest face looks."""
    caster = RayCaster(mesh, 1)
    distance, face = caster.closest(points)
    side = ((points - mesh.vertices[mesh.faces[face, 0]]) * caster.normals(face)).sum(1)
    return np.where(side >= 0, distance, -distance)


def _balance(label_of: npt.NDArray[np.int32], near: BoolArray, values: Grid, count: int) -> FloatArray:
    """[count + 1] for each space between the bands: voxels beside it that are inside, less those outside."""
    balance = np.zeros(count + 1)
    sign = np.where(near, -np.sign(values), 0.0)
    for axis in range(3):
        spaces, signs = np.moveaxis(label_of, axis, 0), np.moveaxis(sign, axis, 0)
        for one, other in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            beside = (spaces[one] > 0) & (signs[other] != 0)
            balance += np.bincount(spaces[one][beside], signs[other][beside], count + 1)
    return balance
