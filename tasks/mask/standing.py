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
from tasks.mask.carving import carve_by_depth, depth_views, touches_region
from tasks.mask.gate import Judgement, Limits, judge
from tasks.mask.photos import MaskPhotos, PhotoMask
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
    poses, support = photos.poses, photos.poses.support
    if support is None:
        return "support: expected a plane that the object stands on, found none"
    body = carve_by_depth(photos, depth_views(photos, edge_px, context), support, context)
    if body is None:
        return "depth: expected something above the support that no photo sees through, found nothing"
    if touches_region(body, poses.world_from_field):
        return "depth: expected an object that ends inside the region, found one that goes on beyond it"
    share = points_on(photos, body, support)
    if share < MIN_ON_BODY:
        what = f"of the sparse points above the support on the object, found {share:.0%}"
        return f"depth: expected at least {MIN_ON_BODY:.0%} {what}"
    caster, packed = RayCaster(body, context.threads), []
    for number, image in enumerate(photos.images):
        context.check()
        packed.append(np.packbits(cast_mask(caster, image.camera, image.c2w)))
        context.progress(0.7 + 0.2 * (number + 1) / len(photos.images), "outlines of the object", {})
    return Outlines(tuple(packed), tuple((image.camera.height, image.camera.width) for image in photos.images))


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


def masks_of(
    photos: MaskPhotos, outlines: Outlines, min_points: int, context: Context
) -> tuple[list[PhotoMask], Judgement]:
    """The outlines as masks of all photos, and whether they can be believed."""
    masks = [photos.keep(index, outlines.of(index), 0.0, "carved") for index in range(len(photos.images))]
    return masks, judge(photos, masks, Limits(min_points, min_unanimous=MIN_UNANIMOUS), context.check)
