"""Completeness and precision without a truth: the surface against stereo of photos that it was not made from.

Depth is estimated for some held-out photos and the photos around them, for the quality stage alone. Where such maps
agree, a place of the surface is known that no setting of training or extraction could have moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.camera import Camera, PosedImage, PoseSet, similarity_scale, transform_points
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster
from tasks import stage_files
from tasks.context import Context
from tasks.quality.base import StereoCheck
from tasks.quality.geometry import sample_surface
from tasks.quality.options import QualityOptions
from tasks.quality.views import spread
from tasks.silhouettes.outlines import ABOVE_SUPPORT
from tasks.stereo import estimate, kernel, views
from tasks.stereo.fusion import Fusion, FusionSettings, MapView, Points, back_project, projected
from tasks.stereo.maps import DepthMap
from tasks.stereo.photo import Photo, crosses_cube, fitted, make_photo, read_mask

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NEAR = 0.005
"""Distance up to which a point and the mesh are the same place, as a share of the mesh's diagonal."""
SOURCES, NEIGHBOURS = 4, 3
"""Photos that each is compared with, and how many of a held-out photo's get a depth map as well: two must agree."""
LEVELS = 2
MINIMUM_POINTS = 200
"""Fewer points say nothing about a mesh."""
MESH_SAMPLES = 20_000
FILLED = 0.6
"""Share of a photo's long edge that an object spans at `stereo_edge_px`; photos in which it spans less are larger."""
PIXELS_OFF = 2.0
"""Pixels by which stereo errs: what lies no further off says nothing against a mesh."""
_CLEAR = 1e-3
"""How far behind the first hit a sample still counts as seen, as a share of the diagonal."""


def check_by_stereo(
    mesh: Mesh, poses: PoseSet, support_cut: bool, options: QualityOptions, context: Context
) -> StereoCheck | None:
    """Measure a mesh; None where there are too few photos or points, no pictures, or no compiled kernel."""
    heldout = spread(poses.of_split("heldout"), options.stereo_views) if options.stereo_views else []
    usable = all(image.image is not None for image in poses.images)
    if not heldout or not usable or not len(mesh.faces) or kernel.library() is None:
        return None
    maps = _Maps(heldout, poses, options, context)
    points = maps.points()
    keep = _above(points.xyz.astype(np.float64), poses, support_cut)
    if keep.sum() < MINIMUM_POINTS:
        return None
    caster = RayCaster(mesh, context.threads)
    near = NEAR * mesh.diagonal
    distance, _ = caster.closest(points.xyz[keep])
    samples, _ = sample_surface(mesh, MESH_SAMPLES, np.random.default_rng([context.request.seed, 7]))
    return StereoCheck(
        completeness=float((distance <= near).mean()),
        precision=maps.supported(samples, caster, near, _CLEAR * mesh.diagonal),
        points=int(keep.sum()),
        photos=len(heldout),
    )


def _above(xyz: FloatArray, poses: PoseSet, support_cut: bool) -> BoolArray:
    """[P] points in the region, and above the support where that was cut off."""
    local = transform_points(np.linalg.inv(np.array(poses.world_from_field)), xyz)
    inside = (np.abs(local) <= 1.0).all(1)
    if support_cut and poses.support is not None:
        normal = np.array(poses.support.normal)
        height = (xyz @ normal + poses.support.offset) / np.linalg.norm(normal)
        inside &= height > ABOVE_SUPPORT * 2.0 * similarity_scale(poses.world_from_field)
    return np.asarray(inside)


def _edge_px(poses: PoseSet, edge_px: int) -> int:
    """The long edge of depth maps in which the region spans FILLED of `edge_px`, at least `edge_px`; photos that are
    smaller stay as they are."""
    side, middle = 2.0 * similarity_scale(poses.world_from_field), np.array(poses.world_from_field)[:3, 3]
    spans = []
    for image in poses.images:
        away = float(np.linalg.norm(np.array(image.centre) - middle))
        spans.append(side * image.camera.fx / (away * max(image.camera.width, image.camera.height)))
    return round(edge_px * max(1.0, FILLED / float(np.median(spans))))


class _Maps:
    """Depth maps of the held-out photos and of the photos next to them."""

    def __init__(
        self, heldout: Sequence[PosedImage], poses: PoseSet, options: QualityOptions, context: Context
    ) -> None:
        self._poses, self._options, self._context = poses, options, context
        self._edge_px = _edge_px(poses, options.stereo_edge_px)
        self._row = {image.name: k for k, image in enumerate(poses.images)}
        self._heldout = [self._row[image.name] for image in heldout]
        points = stage_files.read_points(context)
        seen = stage_files.read_visibility(context, len(poses.images))
        xyz = None if points is None else points["xyz"]
        plan = views.make_plan(poses.images, poses.world_from_field, xyz, seen, SOURCES)
        self._sources, self._ranges = plan.sources, plan.ranges
        self._photos: dict[int, Photo] = {}
        neighbours = [j for k in self._heldout for j in self._sources[k][:NEIGHBOURS]]
        self._mapped = list(dict.fromkeys([*self._heldout, *neighbours]))
        self._maps: dict[int, DepthMap] = {}
        for number, k in enumerate(self._mapped):
            context.check()
            self._maps[k] = self._estimated(k)
            context.progress(0.8 + 0.08 * (number + 1) / len(self._mapped), "depth of held-out photos", {})
        self._depth: dict[int, npt.NDArray[np.float32]] = {}

    def points(self) -> Points:
        """The places that a held-out map and two others show."""
        order = {k: number for number, k in enumerate(self._mapped)}
        rows = []
        for k in self._mapped:
            sources = tuple(order[j] for j in self._sources[k] if j in order)
            rows.append(MapView(self._camera(k), self._poses.images[k].c2w, sources))
        fusion = Fusion(rows, lambda number: self._maps[self._mapped[number]], FusionSettings())
        parts = []
        for k in self._heldout:
            blank = np.zeros((*self._maps[k].depth.shape, 3), np.uint8)
            found, _ = fusion.add(order[k], blank)
            self._depth[k] = fusion.mean_depth(order[k])
            parts.append(found)
        return Points.joined(parts)

    def supported(self, samples: FloatArray, caster: RayCaster, near: float, clear: float) -> float | None:
        """Share of samples [N, 3] of a mesh where the maps have a place of the mesh, of those that a held-out photo
        sees and has an agreed depth for.

        Args:
            near: distance up to which a place is the mesh's; PIXELS_OFF where that is more.
            clear: how far behind the first hit a sample still counts as seen.
        """
        right, wrong = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
        for k, depth in self._depth.items():
            self._context.check()
            camera, c2w = self._camera(k), self._poses.images[k].c2w
            uv, z = projected(MapView(camera, c2w, ()), samples)
            framed = (z > 0) & (uv >= 0).all(1) & (uv < [camera.width, camera.height]).all(1)
            index = np.flatnonzero(framed)
            u, v = uv[index].astype(np.int64).T
            shown = depth[v, u] > 0
            index, u, v = index[shown], u[shown], v[shown]
            seen = caster.visible(samples[index], self._poses.images[k].centre, clear)
            index, u, v = index[seen], u[seen], v[seen]
            places = back_project(MapView(camera, c2w, ()), np.stack([u, v], 1) + 0.5, depth[v, u])
            on_it = caster.closest(places)[0] <= np.maximum(near, PIXELS_OFF * depth[v, u] / camera.fx)
            right[index] += on_it
            wrong[index] += ~on_it
        judged = right + wrong > 0
        return float((right >= wrong)[judged].mean()) if judged.any() else None

    def _camera(self, k: int) -> Camera:
        return fitted(self._poses.images[k].camera, self._edge_px)

    def _photo(self, k: int) -> Photo:
        if k not in self._photos:
            image, camera = self._poses.images[k], self._camera(k)
            mask = crosses_cube(camera, image.c2w, self._poses.world_from_field)
            if image.mask is not None:
                mask &= read_mask(stage_files.fetch_picture(self._context, image.mask), camera)
            with Image.open(stage_files.fetch_picture(self._context, str(image.image))) as picture:
                small = picture.convert("RGB").resize((camera.width, camera.height), Image.Resampling.LANCZOS)
            self._photos[k] = make_photo(small, camera, image.c2w, mask, LEVELS)
        return self._photos[k]

    def _estimated(self, k: int) -> DepthMap:
        sources = self._sources[k]
        if not sources:
            return DepthMap.empty(self._camera(k))
        others = [self._photo(j) for j in sources]
        seed = self._context.request.seed + k
        settings = estimate.StereoSettings(worst_cost=0.5)
        return estimate.estimate(self._photo(k), others, settings, self._ranges[k], seed, self._context.threads)
