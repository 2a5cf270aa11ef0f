"""Masks of what stands on the support, by depth, and whether they can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.camera import Plane, similarity_scale, transform_points
from models.mesh.mesh import Mesh
from models.mesh.raycast import RayCaster, cast_mask
from tasks.context import Context
from tasks.mask.agreement import MIN_VIEWS
from tasks.mask.background import Background
from tasks.mask.carving import carve_by_depth, region_around, touches_region
from tasks.mask.edges import follow_edges
from tasks.mask.gate import Judgement, Limits, judge
from tasks.mask.photos import MaskPhotos, PhotoMask
from tasks.mask.views import chosen_photos, depth_views
from tasks.silhouettes.hull import Mask
from tasks.stereo import kernel

MIN_UNANIMOUS = 0.9
"""Share of the sparse points that all outlines must label alike: they are drawn at a coarse size."""

MIN_ON_BODY = 0.7
"""Share of the sparse points above the support that the object must hold: other things may stand beside it."""
NEAR = 0.02
"""Distance at which a point lies on the object, as a share of the region's side."""


@dataclass(frozen=True)
class Outlines:
    """What stands on the support, as every photo shows it."""

    packed: tuple[npt.NDArray[np.uint8], ...]
    """One a photo: bits of [H, W], row by row."""
    shapes: tuple[tuple[int, int], ...]

    def of(self, index: int) -> Mask:
        """[H, W] the pixels of a photo that show it."""
        height, width = self.shapes[index]
        return np.unpackbits(self.packed[index], count=height * width).reshape(height, width).astype(bool)


@dataclass(frozen=True)
class Saved:
    """Masks that may have to come back."""

    masks: tuple[PhotoMask, ...]
    packed: tuple[npt.NDArray[np.uint8] | None, ...]
    """Bits of each mask; None where it is not believed."""

    @staticmethod
    def of(photos: MaskPhotos, masks: Sequence[PhotoMask]) -> Saved:
        """The masks as they are now."""
        bits = [None if mask.state == "dropped" else np.packbits(photos.mask(mask.index)) for mask in masks]
        return Saved(tuple(masks), tuple(bits))

    def restore(self, photos: MaskPhotos) -> list[PhotoMask]:
        """Write them again."""
        found = []
        for mask, bits in zip(self.masks, self.packed, strict=True):
            camera = photos.images[mask.index].camera
            if bits is None:
                photos.discard(mask.index)
                found.append(mask)
                continue
            whole = np.unpackbits(bits, count=camera.height * camera.width).reshape(camera.height, camera.width)
            found.append(photos.keep(mask.index, whole > 0, mask.undecided, mask.state))
        return found


def is_possible(photos: MaskPhotos) -> bool:
    """Whether there is a support, and a kernel to estimate depth with."""
    return photos.poses.support is not None and kernel.library() is not None


def outlines_by_depth(photos: MaskPhotos, edge_px: int, context: Context) -> Outlines | str:
    """The outlines of the object that `carving` finds, or why it finds none."""
    body = body_by_depth(photos, edge_px, context)
    if isinstance(body, str):
        return body
    caster, packed = RayCaster(body, context.threads), []
    for number, image in enumerate(photos.images):
        context.check()
        outline = cast_mask(caster, image.camera, image.c2w)
        packed.append(np.packbits(follow_edges(photos.picture(number), outline)))
        context.progress(0.7 + 0.2 * (number + 1) / len(photos.images), "outlines of the object", {})
    return Outlines(tuple(packed), tuple((image.camera.height, image.camera.width) for image in photos.images))


def body_by_depth(photos: MaskPhotos, edge_px: int, context: Context) -> Mesh | str:
    """What stands on the support, carved twice: in the region, and then with what it hides known, in a cube around it;
    or why nothing is found."""
    poses, support = photos.poses, photos.poses.support
    if support is None:
        return "support: expected a plane that the object stands on, found none"
    chosen = chosen_photos(photos)
    views = depth_views(photos, chosen, edge_px, context)
    background = Background(photos, chosen, views)
    views = background.checked(views, context)
    body = carve_by_depth(photos, views, support, context)
    if body is None:
        return "depth: expected something above the support that no photo sees through, found nothing"
    if touches_region(body, poses.world_from_field):
        return "depth: expected an object that ends inside the region, found one that goes on beyond it"
    caster = RayCaster(body, context.threads)
    outlines = [cast_mask(caster, view.camera, photos.images[k].c2w) for k, view in zip(chosen, views, strict=True)]
    views = background.with_support(views, outlines, support, context)
    body = carve_by_depth(photos, views, support, context, region_around(photos, body))
    if body is None:
        return "depth: expected something above the support that no photo sees through, found nothing"
    share = points_on(photos, body, support)
    if share < MIN_ON_BODY:
        what = f"of the sparse points above the support on the object, found {share:.0%}"
        return f"depth: expected at least {MIN_ON_BODY:.0%} {what}"
    return body


def points_on(photos: MaskPhotos, body: Mesh, support: Plane) -> float:
    """Share of the sparse points in the region above the support that lie near a body; 1 where there are none."""
    poses, points = photos.poses, photos.points
    side = 2.0 * similarity_scale(poses.world_from_field)
    local = transform_points(np.linalg.inv(np.array(poses.world_from_field)), points.xyz)
    normal = np.array(support.normal)
    height = (points.xyz @ normal + support.offset) / np.linalg.norm(normal)
    above = (np.abs(local) <= 1.0).all(1) & (height > NEAR * side) & (points.views >= MIN_VIEWS)
    if not above.any():
        return 1.0
    distance, _ = RayCaster(body).closest(points.xyz[above])
    return float((distance <= NEAR * side).mean())


def masks_of(photos: MaskPhotos, outlines: Outlines, context: Context) -> tuple[list[PhotoMask], Judgement]:
    """The outlines as masks of all photos, and whether they can be believed. A plain object has no sparse points."""
    masks = [photos.keep(index, outlines.of(index), 0.0, "carved") for index in range(len(photos.images))]
    return masks, judge(photos, masks, Limits(0, min_unanimous=MIN_UNANIMOUS), context.check)
