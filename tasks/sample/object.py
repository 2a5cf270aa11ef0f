"""The sample's object: a ring flask that carries a bowl, with a thin handle. One watertight surface.

It holds what makes digitizing hard: two holes through it (inside the ring, behind the handle), a deep hollow that no
silhouette shows (the bowl), and a part thinner than 4 % of its size (the handle). Lengths in metres, z up, the mat
at z = 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import Mesh

FloatArray = npt.NDArray[np.float64]

FOOT_RADIUS_M, FOOT_HEIGHT_M = 0.040, 0.009
RING_CENTRE_Z_M, RING_RADIUS_M, RING_TUBE_M = 0.053, 0.031, 0.0125
BOWL_CENTRE_Z_M, BOWL_RADIUS_M, BOWL_RIM_Z_M, BOWL_WALL_M = 0.139, 0.045, -0.002, 0.0084
HANDLE_CENTRE_M, HANDLE_RADIUS_M, HANDLE_THICKNESS_M = (0.050, 0.0, 0.088), 0.032, 0.0082
HANDLE_HALF_ARC = np.radians(112.0)
FLUTES = 18
GENUS = 2

PARTS = ("foot", "ring", "bowl", "handle")
LOW: FloatArray = np.array([-0.056, -0.056, -0.004])
"""Lower corner of a box around the object."""
HIGH: FloatArray = np.array([0.092, 0.056, 0.146])


def part_distances(points: FloatArray) -> FloatArray:
    """[N, 4] signed distances in metres from [N, 3] points to each of PARTS, negative inside.

    The primitives are those of Inigo Quilez, "distance functions" (rounded cylinder, torus, cut hollow sphere,
    capped torus); flutes and beads bend them by less than 2 mm.
    """
    x, y, z = points.T
    radial, angle = np.hypot(x, y), np.arctan2(y, x)
    steps = [
        _rounded_cylinder(radial, z, FOOT_RADIUS_M, 0.0, FOOT_HEIGHT_M),
        _rounded_cylinder(radial, z, 0.74 * FOOT_RADIUS_M, 0.004, 1.75 * FOOT_HEIGHT_M),
    ]
    foot = _smooth_union(steps[0], steps[1], 0.003)
    ring = np.hypot(np.hypot(x, z - RING_CENTRE_Z_M) - RING_RADIUS_M, y) - RING_TUBE_M
    return np.stack([foot, ring, _bowl(radial, z - BOWL_CENTRE_Z_M, angle), _handle(x, y, z)], 1)


def signed_distance(points: FloatArray) -> FloatArray:
    """[N] signed distance of the whole object (exact up to the blends between the parts), negative inside."""
    foot, ring, bowl, handle = part_distances(points).T
    body = _smooth_union(_smooth_union(foot, ring, 0.008), bowl, 0.007)
    return _smooth_union(body, handle, 0.003)


def normals(points: FloatArray) -> FloatArray:
    """[N, 3] unit outward normals at points on the surface."""
    gradient = _gradient(points)
    return np.asarray(gradient / np.linalg.norm(gradient, axis=1, keepdims=True))


def build_mesh(cell_m: float) -> Mesh:
    """The object's surface, without colours.

    Args:
        cell_m: edge of the grid's cells; 0.00125 gives about 120,000 faces. The vertices are moved onto the exact
            surface, so a coarser grid costs detail and not accuracy.
    """
    from skimage.measure import marching_cubes

    axes = [np.arange(low, high + cell_m, cell_m) for low, high in zip(LOW, HIGH, strict=True)]
    # slab by slab, so that the temporaries stay small
    slabs = [
        signed_distance(np.stack(np.meshgrid([x], axes[1], axes[2], indexing="ij"), -1).reshape(-1, 3)) for x in axes[0]
    ]
    volume = np.stack(slabs).reshape([len(axis) for axis in axes])
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(cell_m, cell_m, cell_m))
    points = vertices.astype(np.float64) + LOW
    for _ in range(3):
        gradient = _gradient(points)
        step = signed_distance(points) / (gradient**2).sum(1)
        points -= np.clip(step, -0.3 * cell_m, 0.3 * cell_m)[:, None] * gradient
    return Mesh(points, faces.astype(np.int64))


def _gradient(points: FloatArray) -> FloatArray:
    h = 2e-5
    sides = [[signed_distance(points + sign * h * axis) for sign in (1.0, -1.0)] for axis in np.eye(3)]
    return np.stack([(plus - minus) / (2.0 * h) for plus, minus in sides], 1)


def _smooth_union(a: FloatArray, b: FloatArray, radius: float) -> FloatArray:
    blend = np.maximum(radius - np.abs(a - b), 0.0) / radius
    return np.minimum(a, b) - blend**2 * radius / 4.0


def _rounded_cylinder(radial: FloatArray, z: FloatArray, radius: float, low: float, high: float) -> FloatArray:
    rounding = 0.002
    qx = radial - radius + rounding
    qz = np.abs(z - (low + high) / 2.0) - (high - low) / 2.0 + rounding
    outside = np.hypot(np.maximum(qx, 0.0), np.maximum(qz, 0.0))
    return np.asarray(np.minimum(np.maximum(qx, qz), 0.0) + outside - rounding)


def _bowl(radial: FloatArray, z: FloatArray, angle: FloatArray) -> FloatArray:
    rim = np.sqrt(BOWL_RADIUS_M**2 - BOWL_RIM_Z_M**2)
    reach = np.hypot(radial, z)
    above = BOWL_RIM_Z_M * radial < rim * z
    shell = np.where(above, np.hypot(radial - rim, z - BOWL_RIM_Z_M), np.abs(reach - BOWL_RADIUS_M))
    outside = np.clip((reach - BOWL_RADIUS_M) / 0.003, 0.0, 1.0)
    depth = np.clip((-z - 0.008) / 0.012, 0.0, 1.0) * np.clip(radial / 0.02, 0.0, 1.0)
    flutes = 0.0009 * np.cos(FLUTES * angle) * outside * depth
    # a string of beads below the rim
    turn = (angle * 2 * FLUTES / (2 * np.pi) + 0.5) % 1.0 - 0.5
    outer = BOWL_RADIUS_M + BOWL_WALL_M / 2
    along = turn * 2 * np.pi * outer / (2 * FLUTES)
    beads = np.sqrt(along**2 + (z + 0.0075) ** 2 + (radial - outer) ** 2) - 0.0026
    return _smooth_union(shell - BOWL_WALL_M / 2.0 + flutes, beads, 0.0012)


def _handle(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    forward, side = x - HANDLE_CENTRE_M[0], np.abs(z - HANDLE_CENTRE_M[2])
    sine, cosine = np.sin(HANDLE_HALF_ARC), np.cos(HANDLE_HALF_ARC)
    beyond = cosine * side > sine * forward
    k = np.where(beyond, side * sine + forward * cosine, np.hypot(side, forward))
    squared = forward**2 + side**2 + y**2 + HANDLE_RADIUS_M**2 - 2.0 * HANDLE_RADIUS_M * k
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)) - HANDLE_THICKNESS_M / 2.0)
