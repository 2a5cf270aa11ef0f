"""Mirrors and clear glass: where light goes at a smooth surface, and what a camera sees in such an object.

Reflection and Snell's refraction in vector form, Fresnel's equations for unpolarized light (Pharr et al., "Physically
Based Rendering", 4th edition, section 9.3). Caustics are left out: the room's light is computed without them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.mesh.mesh import Mesh
from models.mesh.raycast import Hits, RayCaster
from tasks.sample.material import Material
from tasks.sample.noise import Float32Array, FloatArray

Background = Callable[[FloatArray, FloatArray], Float32Array]
"""(rays_o [N, 3], unit rays_d [N, 3]) -> [N, 3] linear light of all that is not the object."""
BoolArray = npt.NDArray[np.bool_]

REFLECTANCE = 0.92
"""Of a mirror, at every angle: polished silver."""
GLASS_INDEX = 1.5
_MOST_SURFACES = 6
"""Surfaces that a path meets at most; then it looks straight at what is around."""
_OFFSET_M = 1e-4
"""How far from a surface a path goes on, so that it does not meet the same place again."""


def reflect(rays_d: FloatArray, normals: FloatArray) -> FloatArray:
    """[N, 3] directions after a mirror with unit `normals` [N, 3] of either sign."""
    return np.asarray(rays_d - 2.0 * (rays_d * normals).sum(1, keepdims=True) * normals)


def refract(rays_d: FloatArray, normals: FloatArray, ratio: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Directions [N, 3] after Snell's law, and whether [N] a ray is totally reflected instead.

    Args:
        rays_d: [N, 3] unit directions.
        normals: [N, 3] unit normals against the rays.
        ratio: [N] refractive index before the surface over that behind it.
    """
    cosine = -(rays_d * normals).sum(1)
    squared = 1.0 - ratio**2 * (1.0 - cosine**2)
    along = ratio * cosine - np.sqrt(np.maximum(squared, 0.0))
    return np.asarray(ratio[:, None] * rays_d + along[:, None] * normals), np.asarray(squared <= 0.0)


def fresnel(cosine: FloatArray, ratio: FloatArray) -> FloatArray:
    """[N] share of unpolarized light that a surface between two clear bodies reflects; 1 at total reflection.

    Args:
        cosine: [N] of the angle between ray and normal, in [0, 1].
        ratio: [N] refractive index before the surface over that behind it.
    """
    squared = 1.0 - ratio**2 * (1.0 - cosine**2)
    behind = np.sqrt(np.maximum(squared, 0.0))
    across = (ratio * cosine - behind) / np.maximum(ratio * cosine + behind, 1e-12)
    along = (cosine - ratio * behind) / np.maximum(cosine + ratio * behind, 1e-12)
    return np.asarray(np.where(squared <= 0.0, 1.0, (across**2 + along**2) / 2.0))


class ClearBody:
    """An object of mirror or glass, and what is seen in it.

    Args:
        mesh: the closed object in metres; its faces look outwards.
        normals: [F, 3, 3] unit normals at each face's corners, which bend light as the smooth surface would.
        material: `MIRROR` or `GLASS` (solid, index 1.5).
        background: light of all else; nothing of it may lie inside the object's convex hull.
        threads: CPU threads of each query.
    """

    def __init__(
        self, mesh: Mesh, normals: npt.NDArray[np.floating], material: Material, background: Background, threads: int
    ) -> None:
        self._caster = RayCaster(mesh, threads)
        self._normals, self._background = normals.astype(np.float64), background
        self._meet = self._mirror if material is Material.MIRROR else self._glass

    def seen(self, rays_o: npt.ArrayLike, rays_d: npt.ArrayLike) -> Float32Array:
        """[N, 3] linear light that comes back along rays [N, 3]; those that miss the object see what is behind it."""
        o, d = np.array(rays_o, dtype=np.float64), np.array(rays_d, dtype=np.float64)
        d /= np.linalg.norm(d, axis=1, keepdims=True)
        linear, weight = np.zeros((len(d), 3), np.float32), np.ones((len(d), 1))
        path = np.arange(len(d))
        beyond = o
        for _ in range(_MOST_SURFACES):
            hits = self._caster.cast(o, d)
            left = hits.face < 0
            linear[path[left]] += weight[left] * self._background(beyond[left], d[left])
            on = np.flatnonzero(~left)
            path, weight, d = path[on], weight[on], d[on]
            if not len(path):
                return linear
            normal, flat, place = self._at(hits, on, o[on], d)
            d, kept, added = self._meet(place - _OFFSET_M * flat, d, normal)
            linear[path] += weight * added
            weight = weight * kept[:, None]
            side = np.sign((d * flat).sum(1, keepdims=True))
            # the background begins just inside: what the object stands on touches it
            o, beyond = place + _OFFSET_M * side * flat, place - _OFFSET_M * flat
        linear[path] += weight * self._background(beyond, d)
        return linear

    def _at(
        self, hits: Hits, on: npt.NDArray[np.int64], o: FloatArray, d: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Smooth normal, the face's own normal, and place [K, 3] of the hits `on` [K]; both normals look outwards."""
        a, b = hits.bary[on].astype(np.float64).T
        weights = np.stack([1.0 - a - b, a, b], 1)
        normal = np.einsum("nk,nkc->nc", weights, self._normals[hits.face[on]])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        flat = hits.normal[on].astype(np.float64)
        # at the outline a smooth normal may look away from a ray that meets the face
        crossed = (normal * d).sum(1) * (flat * d).sum(1) <= 0.0
        normal[crossed] = flat[crossed]
        return normal, flat, o + hits.t[on].astype(np.float64)[:, None] * d

    def _mirror(
        self, place: FloatArray, d: FloatArray, normal: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What happens at a surface: new direction [K, 3], share [K] of light that it carries, more light [K, 3]."""
        return reflect(d, normal), np.full(len(d), REFLECTANCE), np.zeros((len(d), 3))

    def _glass(self, place: FloatArray, d: FloatArray, normal: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """As `_mirror`: the path goes through, or on inside at total reflection; what the outside reflects is added.

        A reflection on the outside sees the background alone, and weak reflections inside are left out.
        """
        cosine = -(d * normal).sum(1)
        entering = cosine > 0.0
        against = np.where(entering, 1.0, -1.0)[:, None] * normal
        ratio = np.where(entering, 1.0 / GLASS_INDEX, GLASS_INDEX)
        through, total = refract(d, against, ratio)
        mirrored, share = reflect(d, normal), fresnel(np.abs(cosine), ratio)
        added = np.zeros((len(d), 3))
        added[entering] = share[entering, None] * self._background(place[entering], mirrored[entering])
        through /= np.maximum(np.linalg.norm(through, axis=1, keepdims=True), 1e-12)
        return np.where(total[:, None], mirrored, through), np.where(total, 1.0, 1.0 - share), added
