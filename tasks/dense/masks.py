"""Masks after dense stereo: what hangs at another depth goes, what was lost in some photos and stereo holds comes back.

A network judges each photo by itself. It takes shadowed ground between the parts of an object for the object, and loses
dark parts before dark ground; the surface that all photos measure does neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.artifacts import POSES_FILE
from models.camera import PosedImage, PoseSet, project
from models.digest import canonical_json
from models.mesh.mesh import Mesh
from tasks import stage_files
from tasks.context import Context
from tasks.dense.common_shape import CommonShape
from tasks.stereo.sights import Surface, silhouette

BoolArray = npt.NDArray[np.bool_]

HELD = 0.9
"""Share of the masks that frame a place which must hold it; what was measured there comes back in the others then."""
LEAST_ALIKE = 0.5
"""Overlap with the mask of before below which a new one is not believed: intersection over union."""
FOLDER = "masks"


def refine_masks(shape: CommonShape, poses: PoseSet, context: Context) -> dict[str, Any]:
    """Write `poses.json` and `masks/*.png` again; facts about the change.

    Masks that were given stay as they are, and so do those of photos where the surface is somewhere else.
    """
    masked = [image for image in poses.images if image.mask is not None]
    if not masked or poses.mask_tolerance_px == 0:
        return {}
    masks = {image.name: _read(image, context) for image in masked}
    held = Surface(held_faces(shape.measured, masked, masks.values()), context.threads)
    (context.output / FOLDER).mkdir(exist_ok=True)
    changes, refined = [], {}
    for image in masked:
        context.check()
        mask, at = masks[image.name], (image.camera, image.c2w)
        new = refined_mask(mask, silhouette(shape.closed, *at), silhouette(held, *at))
        changes.append(alike(mask, new))
        path = f"{FOLDER}/{Path(str(image.mask)).name}"
        Image.fromarray(np.where(new, 255, 0).astype(np.uint8)).save(context.output / path)
        refined[image.name] = image.model_copy(update={"mask": path})
    images = tuple(refined.get(image.name, image) for image in poses.images)
    (context.output / POSES_FILE).write_bytes(canonical_json(poses.model_copy(update={"images": images})))
    return {"masks_refined": len(changes), "masks_alike": round(float(np.mean(changes)), 4)}


def refined_mask(mask: BoolArray, whole: BoolArray, held: BoolArray) -> BoolArray:
    """[H, W] a mask by two silhouettes: of the closed surface, which it keeps to within a pixel, and of the measured
    faces that the other masks hold, which it takes in."""
    from scipy.ndimage import binary_dilation

    new = np.asarray((mask & binary_dilation(whole)) | held)
    return new if alike(mask, new) >= LEAST_ALIKE else mask


def alike(a: BoolArray, b: BoolArray) -> float:
    """Intersection over union; 1 for two empty masks."""
    either = int((a | b).sum())
    return float((a & b).sum() / either) if either else 1.0


def held_faces(measured: Mesh, images: Iterable[PosedImage], masks: Iterable[BoolArray]) -> Mesh:
    """The faces of a surface whose corners lie inside nearly all masks that frame them. No visibility is needed: what
    hides a place of the object in a photo is the object."""
    inside, framed = np.zeros(len(measured.vertices), np.int64), np.zeros(len(measured.vertices), np.int64)
    for image, mask in zip(images, masks, strict=True):
        height, width = mask.shape
        uv, depth = project(image.camera, image.c2w, measured.vertices)
        shown = np.flatnonzero((depth > 0) & (uv >= 0).all(1) & (uv < [width, height]).all(1))
        column, row = uv[shown].astype(np.int64).T
        framed[shown] += 1
        inside[shown] += mask[row, column]
    held = inside >= HELD * np.maximum(framed, 1)
    return Mesh(measured.vertices, measured.faces[held[measured.faces].all(1)])


def _read(image: PosedImage, context: Context) -> BoolArray:
    with Image.open(stage_files.fetch_picture(context, str(image.mask))) as picture:
        return np.asarray(picture.convert("L")) > 127
