"""Figures of a scene without truth: what of its fused stereo points the mesh covers, and what of the mesh floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.camera import PoseSet, transform_points
from models.mesh.raycast import RayCaster
from models.mesh.topology import components
from tasks.quality.published import read_published

NEAR = 0.005
"""Distance up to which a point and the mesh are the same place, as a share of the mesh's diagonal."""
LOOSE = 0.001
"""Share of the faces from which on a loose piece counts."""


def scene_figures(surface: Path, dense: Path, poses: Path) -> dict[str, Any]:
    """`covers`: share of the fused points in the region within 0.5 % of the diagonal of the mesh. `floaters`: pieces of
    more than 0.1 % of the faces, the largest apart, no corner of which has a fused point within that distance.

    Args:
        surface: folder with the published mesh (`asset.glb`).
        dense: folder with `dense.npz`.
        poses: folder with the `poses.json` of the region.
    """
    from scipy.spatial import cKDTree

    capture = PoseSet.model_validate_json((poses / "poses.json").read_bytes())
    mesh = read_published(surface / "asset.glb", capture.up)
    with np.load(dense / "dense.npz") as data:
        xyz = data["xyz"].astype(np.float64)
    local = transform_points(np.linalg.inv(np.array(capture.world_from_field)), xyz)
    xyz = xyz[(np.abs(local) <= 1.0).all(1)]
    near = NEAR * mesh.diagonal
    distance, _ = RayCaster(mesh, 2).closest(xyz)
    tree = cKDTree(xyz)
    corners = np.unique(mesh.vertices, axis=0, return_inverse=True)[1].ravel()
    piece = components(corners[mesh.faces])
    sizes = np.bincount(piece)
    floaters = 0
    for number in np.flatnonzero(sizes >= LOOSE * len(mesh.faces)):
        if number == sizes.argmax():
            continue
        corner = mesh.vertices[np.unique(mesh.faces[piece == number])]
        floaters += int(np.isinf(tree.query(corner, distance_upper_bound=near)[0]).all())
    return {
        "covers": round(float((distance <= near).mean()), 4) if len(xyz) else 0.0,
        "floaters": floaters,
        "points": len(xyz),
        "pieces": len(sizes),
    }
