"""Masks without a network: the outline of what stands on the support, inside the region of interest, by depth.

Without a compiled kernel for depth, or where depth tells nothing, the outline of the sparse points above the support.
It cuts nothing off a convex object, and leaves background in the hollows of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from models.resources import Estimate, Resources
from tasks.mask.options import MaskOptions, depth_maps_gb

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from models.camera import PosedImage
    from tasks.context import Context
    from tasks.mask.gate import Judgement
    from tasks.mask.photos import MaskPhotos, PhotoMask

VERSION = "5"
PRESETS: dict[str, dict[str, object]] = {}


class Options(MaskOptions):
    """Options of the `geometry` method."""

    dilation: float = Field(default=0.02, ge=0, le=0.5)
    """How far outlines of sparse points reach beyond them, as a share of their size: points rarely lie on the very
    edge. Raise it when masks cut into the object."""


def resources(options: Options) -> Resources:
    """Two cores; small depth maps of all photos."""
    memory_gb = max(2.0, 1.2 * estimate(options, 100, 12.0).memory_gb)
    return Resources(cpus=2, memory_gb=memory_gb, scratch_gb=0.5, timeout_s=3600)


def estimate(options: Options, photos: int, megapixels: float) -> Estimate:
    """Small depth maps, outlines drawn and written, then the hull."""
    small = photos * (options.depth_edge_px / 512.0) ** 2
    return Estimate(
        seconds=6.0 + 1.6 * small + photos * 0.3 * megapixels,
        memory_gb=0.6 + depth_maps_gb(photos, options.depth_edge_px) + 0.02 * megapixels,
    )


def find_masks(photos: MaskPhotos, options: Options, context: Context) -> tuple[list[PhotoMask], Judgement]:
    """Masks of all photos, and whether there is anything to believe."""
    from dataclasses import replace

    from tasks.mask.standing import is_possible, masks_of, outlines_by_depth

    if not is_possible(photos):
        return _outlined_points(photos, options, context)
    outlines = outlines_by_depth(photos, options.depth_edge_px, context)
    if not isinstance(outlines, str):
        return masks_of(photos, outlines, context)
    masks, judgement = _outlined_points(photos, options, context)
    return masks, replace(judgement, notes=(outlines,))


def _outlined_points(photos: MaskPhotos, options: Options, context: Context) -> tuple[list[PhotoMask], Judgement]:
    import numpy as np

    from tasks.mask.gate import Judgement, Limits, judge
    from tasks.silhouettes.outlines import dilate, points_above_support

    poses = photos.poses
    if poses.support is None:
        reason = "support: expected a plane that the object stands on, found none"
        return [], Judgement({}, (reason,), None)
    body = points_above_support(photos.points.xyz, poses.world_from_field, poses.support)
    if body is None:
        reason = "points_inside: expected 50 sparse points or more above the support in the region, found fewer"
        return [], Judgement({}, (reason,), None)
    corners = body.vertices[np.unique(body.faces)]
    masks = []
    for index, image in enumerate(photos.images):
        context.check()
        context.progress(0.8 * index / len(photos.images), "outlining the points", {})
        masks.append(photos.keep(index, dilate(_outline(image, corners), options.dilation), 0.0))
    return masks, judge(photos, masks, Limits(options.min_points), context.check)


def _outline(image: PosedImage, corners: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """[H, W] the convex hull of points [N, 3] in a photo; empty where one of them is behind the camera."""
    import numpy as np
    from PIL import Image, ImageDraw
    from scipy.spatial import ConvexHull

    from models.camera import project

    camera = image.camera
    uv, depth = project(camera, image.c2w, corners)
    picture = Image.new("L", (camera.width, camera.height))
    if (depth > 0).all():
        rim = uv[ConvexHull(uv).vertices] - 0.5
        ImageDraw.Draw(picture).polygon([(float(u), float(v)) for u, v in rim], fill=1)
    return np.asarray(picture) > 0
