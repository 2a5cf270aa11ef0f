"""Removing what is not the object: broken faces, floaters, and blobs that no camera sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.errors import DigitizeError, ReasonCode
from models.mesh.mesh import IntArray, Mesh
from models.mesh.raycast import RayCaster
from models.mesh.topology import boundary_loops, components, face_areas, keep_faces
from tasks.surface.polygons import triangulate
from tasks.surface.views import View, pixel_grid

RAYS_PER_VIEW = 60_000
MINIMUM_CAMERAS = 2
"""Cameras that must see a component for it to stay: one alone cannot have measured it."""


@dataclass(frozen=True)
class Sight:
    """What the cameras see of a mesh, by rays spread over their pictures."""

    hits: IntArray
    """[F] rays that end on each face's front."""
    cameras: IntArray
    """[components] cameras that see each component's front."""
    labels: IntArray
    """[F] component of each face."""
    back_share: float
    """Share of all hits that end on the back of a face: near 1 for a surface that is inside out."""
    hit_share: float
    """Share of the rays that meet the mesh at all."""


@dataclass(frozen=True)
class Cleaned:
    """A mesh after cleaning and what was taken away."""

    mesh: Mesh
    components_removed: int
    area_removed_share: float
    back_share: float


def tidy(mesh: Mesh) -> Mesh:
    """The mesh without degenerate faces (a vertex twice, or no area) and without a face's second copy."""
    faces = mesh.faces
    a, b, c = faces.T
    keep = (a != b) & (b != c) & (a != c)
    keep &= face_areas(mesh) > 0
    ordered = np.sort(faces, axis=1)
    span = int(faces.max(initial=0)) + 1
    if span < 2_000_000:
        # one number for three: sorting rows takes ten times as long
        _, first = np.unique((ordered[:, 0] * span + ordered[:, 1]) * span + ordered[:, 2], return_index=True)
    else:
        _, first = np.unique(ordered, axis=0, return_index=True)
    single = np.zeros(len(faces), bool)
    single[first] = True
    return keep_faces(mesh, keep & single)


def look(mesh: Mesh, views: Sequence[View], threads: int = 0, check: Callable[[], None] = lambda: None) -> Sight:
    """Cast rays from every view and count where they end."""
    caster = RayCaster(mesh, threads)
    labels = components(mesh.faces)
    hits = np.zeros(len(mesh.faces), np.int64)
    cameras = np.zeros(int(labels.max(initial=-1)) + 1, np.int64)
    back, met, total = 0, 0, 0
    for view in views:
        check()
        rays_o, rays_d = pixel_grid(view, RAYS_PER_VIEW)
        found = caster.cast(rays_o, rays_d)
        hit = found.face >= 0
        front = hit & (np.einsum("ni,ni->n", found.normal, rays_d) < 0)
        back += int((hit & ~front).sum())
        met, total = met + int(hit.sum()), total + len(hit)
        hits += np.bincount(found.face[front], minlength=len(hits))
        cameras[np.unique(labels[found.face[front]])] += 1
    return Sight(hits, cameras, labels, back / max(met, 1), met / max(total, 1))


def clean(
    mesh: Mesh,
    views: Sequence[View],
    minimum_share: float,
    minimum_size: float,
    threads: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Cleaned:
    """Drop floaters and what no camera sees.

    Args:
        minimum_share: a component stays when its area is at least this share of the largest seen component's.
        minimum_size: length of the bounding box's diagonal, in the mesh's unit, below which even the largest
            component counts as a floater.

    Raises:
        DigitizeError(all_floaters): no component is large enough and seen by two cameras.
        DigitizeError(inside_out): the cameras see mostly the backs of faces.
    """
    before = tidy(mesh)
    sight = look(before, views, threads, check)
    check_outside(sight)
    areas = np.bincount(sight.labels, face_areas(before), minlength=len(sight.cameras))
    seen = sight.cameras >= min(MINIMUM_CAMERAS, len(views))
    largest = areas[seen].max(initial=0.0)
    stay = seen & (areas >= minimum_share * largest)
    kept = keep_faces(before, stay[sight.labels]) if largest > 0 else before
    if largest <= 0 or kept.diagonal < minimum_size:
        size = 0.0 if largest <= 0 else kept.diagonal
        raise DigitizeError(
            ReasonCode.ALL_FLOATERS,
            f"expected a component of at least {minimum_size:.3g} units seen by {MINIMUM_CAMERAS} cameras, "
            f"found {len(areas)} components, the best {size:.3g} units large",
        )
    removed = 1.0 - float(areas[stay].sum() / areas.sum())
    return Cleaned(kept, int((~stay).sum()), removed, sight.back_share)


def check_outside(sight: Sight) -> None:
    """Raise DigitizeError(inside_out) when most rays end on the backs of faces: the surface encloses the cameras."""
    if sight.back_share > 0.5:
        raise DigitizeError(
            ReasonCode.INSIDE_OUT,
            f"expected the cameras to see the front of the surface, found {sight.back_share:.0%} of their rays ending "
            "on backs of faces",
        )


def fill_holes(mesh: Mesh, maximum_edges: int) -> tuple[Mesh, int]:
    """Close boundaries of at most `maximum_edges` edges. Returns the mesh and the number of holes closed."""
    fresh = []
    for loop in boundary_loops(mesh.faces):
        if len(loop) > maximum_edges:
            continue
        points = mesh.vertices[loop]
        centred = points - points.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        flat = centred @ axes[:2].T
        # against the faces around the hole, the patch's edges run the other way
        reverse = loop[::-1]
        fresh.append(reverse[triangulate(flat[::-1])])
    if not fresh:
        return mesh, 0
    return replace(mesh, faces=np.concatenate([mesh.faces, *fresh])), len(fresh)
