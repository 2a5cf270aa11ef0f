"""What every training method does before its first step: memory, photos, cells that nobody sees."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from models.camera import PoseSet, apply_similarity_to_c2w
from models.errors import DigitizeError, ReasonCode
from models.fields.kernels.reference import COARSE
from models.fields.occupancy import OccupancyGrid, cell_centres
from tasks.context import Context
from tasks.stage_files import fetch_picture
from tasks.train.options import MaskUse
from tasks.train.pixel_bank import Photo, PixelBank, bytes_of, cameras_in_field, load_bank, read_photo
from tasks.train.stream import StreamBank
from tasks.train.visibility import hidden_cells

TRUSTED_PX = 3.0
"""Tolerance of automatic masks up to which what lies outside them is empty."""


def settle_masks(poses: PoseSet, mask_use: MaskUse) -> tuple[PoseSet, MaskUse]:
    """The photos that training goes by, with the masks it may trust, and what masked pixels mean.

    Automatic masks (`mask_tolerance_px` above 0) say what is empty, unless they are to be ignored: they lose thin parts
    here and there, and to leave out what they leave out would take the background from beside every outline. Outlines
    of more than `TRUSTED_PX` would cut such parts off for good: photos are learned whole. Photos whose automatic mask
    was not believed would put their background on the object: they are left out.
    """
    automatic = poses.mask_tolerance_px > 0
    trusted = automatic and poses.mask_tolerance_px <= TRUSTED_PX
    settled: MaskUse = mask_use if mask_use != "auto" else "empty" if trusted else "ignore"
    if not automatic:
        return poses, settled
    if settled == "empty":
        images = tuple(image for image in poses.images if image.mask)
    else:
        images = tuple(image.model_copy(update={"mask": None}) for image in poses.images)
    return poses.model_copy(update={"images": images}), settled


def check_memory(expected_gb: float, context: Context) -> None:
    """Raise DigitizeError(out_of_memory) if the memory expected exceeds what the stage was given."""
    limit = context.request.resources.memory_gb
    if expected_gb > limit:
        raise DigitizeError(
            ReasonCode.OUT_OF_MEMORY,
            f"training is expected to take {expected_gb:.1f} GB, found a limit of {limit:.1f} GB",
            asset=context.request.asset,
        )


def megapixels_of(poses: PoseSet) -> float:
    """Size of the first photo in megapixels; 0 without photos."""
    return poses.images[0].camera.width * poses.images[0].camera.height / 1e6 if poses.images else 0.0


def open_bank(poses: PoseSet, split: Literal["train", "heldout"], memory_gb: float, context: Context) -> PixelBank:
    """The pixels of one split of the input `pose`, halved until they fit into `memory_gb`."""

    def open_file(path: str) -> Path:
        return fetch_picture(context, path)

    images = poses.of_split(split)
    return load_bank(images, open_file, poses.world_from_field, memory_gb, context.device, context.check)


def open_photos(
    poses: PoseSet,
    split: Literal["train", "heldout"],
    where: Literal["auto", "memory", "stream"],
    memory_gb: float,
    context: Context,
) -> PixelBank | StreamBank:
    """The pixels of one split, all in memory (as `open_bank`) or streamed at full size.

    Args:
        where: `memory`, `stream`, or `auto`: streamed if they do not fit into `memory_gb`.
    """
    images = poses.of_split(split)
    if where == "memory" or (where == "auto" and bytes_of(images) <= memory_gb * 1e9):
        return open_bank(poses, split, memory_gb, context)
    context.check()
    cameras, c2f = cameras_in_field(images, poses.world_from_field)

    def read(number: int) -> Photo:
        return read_photo(images[number], cameras[number], lambda path: fetch_picture(context, path))

    masked = any(image.mask is not None for image in images)
    return StreamBank(cameras, c2f, read, masked, memory_gb, context.request.seed, context.device)


def forbid_hidden(grid: OccupancyGrid, poses: PoseSet, minimum_views: int, near: float) -> None:
    """Empty the blocks of cells whose centres `visibility.hidden_cells` names, for good."""
    images = poses.of_split("train")
    field_from_world = np.linalg.inv(np.array(poses.world_from_field))
    side = grid.resolution // COARSE
    inner = cell_centres(side).double().numpy()
    centres = np.concatenate([inner * 2**cascade for cascade in range(grid.cascades)])
    hidden = hidden_cells(
        centres,
        [image.camera for image in images],
        [apply_similarity_to_c2w(field_from_world, image.c2w) for image in images],
        minimum_views,
        near,
    )
    blocks = torch.from_numpy(hidden).view(grid.cascades, side, side, side)
    fine = blocks.repeat_interleave(COARSE, 1).repeat_interleave(COARSE, 2).repeat_interleave(COARSE, 3)
    grid.forbid(fine)
