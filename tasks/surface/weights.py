"""How well each photograph shows each vertex, and what it shows there.

Weights live at vertices and are interpolated over faces, so that the choice of photographs changes smoothly over the
surface; only what happens inside a face (an occluder's edge) is looked at texel by texel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import project
from models.mesh.mesh import ByteArray, Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import vertex_normals
from tasks.surface.views import View

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

UNSAFE = 1e-3
"""Weight of a photo whose view of a vertex ends at a silhouette or an occluder, relative to a clear view."""
BORDER = 0.03
"""Share of the picture's shorter side over which weights fade towards its border."""


@dataclass(frozen=True)
class VertexViews:
    """What each photograph shows of each vertex."""

    weight: Float32Array
    """[V, C] >= 0; 0 where the photo does not show the vertex."""
    safe: BoolArray
    """[V, C] seen with all faces around: neither a silhouette nor an occluder is near."""
    rgb: ByteArray
    """[V, C, 3] sRGB of the pixel there."""
    pixels: Float32Array
    """[V, C] pixels of the photo for one unit of length on the surface, seen from the front."""


def vertex_views(
    mesh: Mesh,
    views: Sequence[View],
    caster: RayCaster,
    tolerance: float,
    angle_power: float,
    check: Callable[[], None] = lambda: None,
) -> VertexViews:
    """Weights, colours and resolution of every vertex in every view.

    Args:
        tolerance: length by which a point may lie behind the first hit and still be seen.
        angle_power: exponent of the cosine between the surface's normal and the direction to the camera.
    """
    normals = vertex_normals(mesh)
    shape = (len(mesh.vertices), len(views))
    weight, pixels = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    safe, rgb = np.zeros(shape, bool), np.zeros((*shape, 3), np.uint8)
    sharp = np.zeros(len(views))
    for c, view in enumerate(views):
        check()
        picture = view.rgb()
        sharp[c] = sharpness(picture)
        camera, c2w = view.camera, view.c2w
        to_eye = c2w[:3, 3] - mesh.vertices
        distance = np.linalg.norm(to_eye, axis=1)
        cosine = np.einsum("ni,ni->n", normals, to_eye) / np.maximum(distance, 1e-300)
        uv, depth = project(camera, c2w, mesh.vertices)
        edge = np.minimum(np.minimum(uv[:, 0], camera.width - uv[:, 0]), np.minimum(uv[:, 1], camera.height - uv[:, 1]))
        candidate = np.nonzero((depth > 0) & (edge > 1.0) & (cosine > 0.02))[0]
        if len(candidate) == 0:
            continue
        column, row = (uv[candidate].T).astype(np.int64)
        mask = view.mask()
        if mask is not None:
            allowed = _eroded(mask)[row, column]
            candidate, column, row = candidate[allowed], column[allowed], row[allowed]
        candidate_seen = caster.visible(mesh.vertices[candidate], c2w[:3, 3], tolerance)
        seen = np.zeros(len(mesh.vertices), bool)
        seen[candidate[candidate_seen]] = True
        safe[:, c] = _clear(seen, mesh)
        fade = np.clip(edge / (BORDER * min(camera.width, camera.height)), 0.05, 1.0)
        pixels[:, c] = np.where(depth > 0, camera.fx / np.maximum(depth, 1e-300), 0.0)
        value = np.clip(cosine, 0.0, 1.0) ** angle_power * pixels[:, c] * fade
        weight[:, c] = np.where(seen, value * np.where(safe[:, c], 1.0, UNSAFE), 0.0)
        rgb[candidate, c] = picture[row, column]
    typical = np.median(sharp[sharp > 0]) if (sharp > 0).any() else 1.0
    weight *= np.clip(sharp / typical, 0.25, 1.25).astype(np.float32)
    return VertexViews(weight, safe, rgb, pixels)


def sharpness(picture: ByteArray) -> float:
    """Mean absolute second difference of the picture's brightness relative to its mean first difference."""
    grey = picture.astype(np.float32).mean(2)
    first = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    second = np.abs(np.diff(grey, 2, axis=0)).mean() + np.abs(np.diff(grey, 2, axis=1)).mean()
    return float(second / first) if first > 0 else 0.0


def _eroded(mask: BoolArray) -> BoolArray:
    """The mask without the ring of pixels in which object and background mix."""
    from scipy.ndimage import binary_erosion

    eroded: BoolArray = binary_erosion(mask, iterations=2, border_value=1)
    return eroded


def _clear(seen: BoolArray, mesh: Mesh) -> BoolArray:
    """[V] vertices that are seen and whose faces have no unseen vertex."""
    partly = ~seen[mesh.faces].all(1)
    clear = seen.copy()
    clear[mesh.faces[partly].ravel()] = False
    return clear


def keep_best(weight: Float32Array, count: int, power: float) -> Float32Array:
    """Weights [V, C] of the `count` best views of each vertex, 1 for the best, raised to `power`.

    What the next best view weighs is taken off all: a view enters and leaves the choice at weight 0, without a jump.
    """
    if weight.shape[1] > count:
        bar = np.partition(weight, -count - 1, axis=1)[:, -count - 1 : -count]
        best = weight.max(1, keepdims=True)
        # where nearly equal views abound the difference alone would leave nothing
        weight = np.maximum(weight - np.minimum(bar, 0.95 * best), 0.0)
    best = weight.max(1, keepdims=True)
    relative = np.divide(weight, best, out=np.zeros_like(weight), where=best > 0)
    return np.asarray(relative**power, dtype=np.float32)
