"""Masks that the line found, as pictures in the geometry of the photos as they were given: to edit and to give back."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.status.account import stage_done
from models.artifacts import INDEX_FILE, LENSES_FILE, MASK_FACTS_FILE, POSES_FILE
from models.camera import Camera, FloatArray, Lens, LensSet, PosedImage, PoseSet
from models.errors import DigitizeError, ReasonCode
from models.photos import IngestedPhoto, PhotoIndex
from models.results import Done
from models.spec import MaskRole
from models.stage import Stage
from models.status import AssetStatus
from models.store import Store

ROLE = MaskRole.OUTLINE
"""The role under which exported masks are given back: they were found on whole photos."""
NO_CAMERA, DROPPED, EMPTY = "no camera found", "its mask disagreed with the other photos'", "its mask is empty"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    files: dict[str, str]
    """The mask of each photo that has one: photo name -> file name."""
    without: dict[str, str]
    """Why each of the other photos has none."""


@dataclass(frozen=True)
class _Found:
    """The committed stages of an asset that its masks come from."""

    store: Store
    ingest: Done
    pose: Done
    masks: Done
    """The stage that they were found in, or the one that refined them."""

    def read(self, done: Done, path: str) -> bytes:
        """A file of a stage. Raises DigitizeError(source_not_found) where the stage has none."""
        data = self.store.get_bytes(f"{done.ref.uri.removeprefix('store:')}/{path}") if done.ref.has(path) else None
        if data is None:
            message = f"expected {path} of stage {done.stage}, found none"
            hint = f"It was committed by an earlier version: `digitize rerun SPEC --from {done.stage}`."
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, hint, asset=done.asset, path=done.prefix)
        return data


def export_masks(store: Store, status: AssetStatus, folder: Path) -> Exported:
    """Write the masks that were found, as dense stereo refined them, into an empty folder: 8-bit PNGs named as the
    photos, 255 on the object, each of its upright photo's size and with its photo's lens distortion.

    Raises DigitizeError(source_not_found) when there are no masks, and says why; DigitizeError(spec_invalid) when the
    folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = "expected an empty folder, or none" + (", found files in it" if folder.is_dir() else ", found a file")
        raise DigitizeError(ReasonCode.SPEC_INVALID, message, "Choose another folder.", path=str(folder))
    found = _committed(store, status)
    index = PhotoIndex.model_validate_json(found.read(found.ingest, INDEX_FILE))
    poses = PoseSet.model_validate_json(found.read(found.masks, POSES_FILE))
    lenses = LensSet.model_validate_json(found.read(found.pose, LENSES_FILE))
    folder.mkdir(parents=True, exist_ok=True)
    return _write(found, index, poses, {lens.name: lens for lens in lenses.lenses}, folder)


def _committed(store: Store, status: AssetStatus) -> _Found:
    """The stages. Raises DigitizeError(source_not_found) where they hold no masks that were found."""
    ingest, pose, mask = (stage_done(store, status, stage) for stage in (Stage.INGEST, Stage.POSE, Stage.MASK))
    if ingest is None or pose is None or mask is None:
        message = "expected masks, found none: the mask stage is not done"
        hint = f"`digitize run SPEC --asset {status.asset}`; `masks: none` and masks that are given have no such stage."
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, hint, asset=status.asset)
    dense = stage_done(store, status, Stage.DENSE)
    found = _Found(store, ingest, pose, dense if dense is not None and dense.ref.has(POSES_FILE) else mask)
    facts: dict[str, Any] = json.loads(found.read(mask, MASK_FACTS_FILE))
    if facts.get("scene_mode"):
        message = "\n".join(["expected masks, found a scene: none could be believed", *facts.get("reasons", ())])
        hint = "Draw masks by hand (`masks: {path: FOLDER, role: outline}`), or try another network (docs/spec.md)."
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, hint, asset=status.asset)
    if facts.get("given"):
        message = "expected masks that were found, found photos that bring their own along (an alpha channel)"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, "Edit the photos.", asset=status.asset)
    return found


def _write(found: _Found, index: PhotoIndex, poses: PoseSet, lenses: Mapping[str, Lens], folder: Path) -> Exported:
    from tasks.ingest.masks import mask_names

    names = mask_names([*(photo.name for photo in index.photos), *(photo.name for photo in index.rejected)])
    images = {image.name: image for image in poses.images}
    files, without = dict[str, str](), dict[str, str]()
    warp = _Warp(lenses)
    for photo in index.shown:
        image = images.get(photo.name)
        if image is None or image.mask is None:
            without[photo.name] = NO_CAMERA if image is None else DROPPED
        elif warp.write(found, photo, image, folder / names[photo.name]):
            files[photo.name] = names[photo.name]
        else:
            without[photo.name] = EMPTY
    return Exported(files, without)


class _Warp:
    """Takes masks back to the photos. Photos of one camera share what was worked out for it."""

    def __init__(self, lenses: Mapping[str, Lens]) -> None:
        self._lenses = lenses
        self._last: tuple[Lens, Camera, FloatArray] | None = None

    def write(self, found: _Found, photo: IngestedPhoto, image: PosedImage, target: Path) -> bool:
        """Write a photo's mask; False, and nothing, where it shows nothing of the object."""
        import numpy as np
        from PIL import Image

        from tasks.pose.undistort import redistort

        with Image.open(io.BytesIO(found.read(found.masks, str(image.mask)))) as picture:
            mask = np.asarray(picture.convert("L")) >= 128
        if not mask.any():
            return False
        size = (photo.source_width, photo.source_height)
        redistort(mask, self._pixels(photo.name, image.camera), size).save(target, "PNG")
        return True

    def _pixels(self, name: str, camera: Camera) -> FloatArray | None:
        from tasks.pose.undistort import pinhole_pixels

        if name not in self._lenses:
            return None
        lens: Lens = self._lenses[name].model_copy(update={"name": ""})
        if self._last is None or self._last[:2] != (lens, camera):
            self._last = (lens, camera, pinhole_pixels(lens, camera))
        return self._last[2]
