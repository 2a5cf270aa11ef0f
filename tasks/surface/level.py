"""Which density is the surface? The one whose surface lies where the field itself, rendered, says that it is.

A density has no level of its own: textured parts become opaque within a hair's breadth, dull ones over a centimetre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.camera import Matrix4, pixel_rays, similarity_scale, transform_points
from models.fields.base import Field
from models.mesh.mesh import FloatArray, Mesh
from models.mesh.raycast import RayCaster
from tasks.surface.extract import extract
from tasks.surface.views import View

FACTORS = (1.0, 0.5, 2.0, 0.2)
"""Multiples of the field's level that are compared; the first of equals wins."""
RESOLUTION = 96
VIEWS = 8
EDGE_PX = 96
"""Longer side of the pictures that are compared."""
TOO_FAR = 0.1
"""Difference in field units that counts as missing the surface."""
CLEAR, SOLID = 0.2, 0.5
"""Opacity of pixels that must show nothing, and of those that must show a surface."""


class Picture(NamedTuple):
    """What the field shows along the rays of one small picture."""

    rays_o: FloatArray
    rays_d: FloatArray
    t: FloatArray
    """[N] distance of the surface in world units; infinite where there is none, or none that matters."""
    clear: npt.NDArray[np.bool_]
    """[N] where nothing is to be seen."""


def rank_levels(
    field: Field,
    views: Sequence[View],
    world_from_field: Matrix4,
    keep: Callable[[FloatArray], npt.NDArray[np.bool_]] | None = None,
    threads: int = 0,
    check: Callable[[], None] = lambda: None,
    broken_share: float = 0.0,
) -> list[float]:
    """FACTORS, the best first: by how far their surfaces lie from the field's rendered depth.

    Args:
        views: training views; a few are used.
        broken_share: as `extract` has it.
        keep: which points [N, 3] of the world matter, as [N] bool (those above the support); all if None.
    """
    from models.fields.render import render_image

    pictures = []
    for number in np.unique(np.linspace(0, len(views) - 1, VIEWS).astype(int)):
        check()
        view = views[number]
        shrink = min(1.0, EDGE_PX / max(view.camera.width, view.camera.height))
        camera = view.camera.resized(round(view.camera.width * shrink), round(view.camera.height * shrink))
        picture = render_image(field, camera, view.c2w, world_from_field, check)
        rays_o, rays_d = pixel_rays(camera, view.c2w)
        t = picture.depth.ravel() / (rays_d @ view.c2w[:3, 2])
        seen = np.isfinite(t) & (picture.opacity.ravel() >= SOLID)
        if keep is not None:
            seen &= keep(rays_o + np.where(seen, t, 0.0)[:, None] * rays_d)
        pictures.append(Picture(rays_o, rays_d, np.where(seen, t, np.inf), picture.opacity.ravel() < CLEAR))
    unit = similarity_scale(world_from_field)
    scores = []
    for factor in FACTORS:
        check()
        local = extract(field, RESOLUTION, field.level * factor, check=check, broken_share=broken_share)
        world = Mesh(transform_points(world_from_field, local.vertices), local.faces)
        scores.append(_disagreement(world, pictures, unit, threads) if len(local.faces) else np.inf)
    return [FACTORS[i] for i in np.argsort(scores, kind="stable")]


def _disagreement(mesh: Mesh, pictures: Sequence[Picture], unit: float, threads: int) -> float:
    """Mean over the pixels that show a surface or nothing: 0 where both agree, 1 where one lacks what the other has."""
    caster = RayCaster(mesh, threads)
    total, count = 0.0, 0
    for picture in pictures:
        found = caster.cast(picture.rays_o, picture.rays_d).t.astype(np.float64)
        solid = np.isfinite(picture.t)
        off = np.abs(found[solid] - picture.t[solid]) / unit
        total += float(np.minimum(off / TOO_FAR, 1.0).sum()) + float(np.isfinite(found[picture.clear]).sum())
        count += int(solid.sum() + picture.clear.sum())
    return total / max(count, 1)
