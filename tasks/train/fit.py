"""From poses to a trained radiance field: read the photos, forbid the cells nobody sees, train."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from models.camera import CameraSet, PoseSet
from models.fields.base import Field
from models.fields.hash_density import HashDensityField
from models.fields.threads import threads_of
from tasks.context import Context
from tasks.train.cameras import CameraChange
from tasks.train.inputs import forbid_hidden, open_photos
from tasks.train.memory import fitting
from tasks.train.methods.hash_density import Options
from tasks.train.radiance_learner import RadianceLearner
from tasks.train.trainer import Progress, train

FEATURES = 16

Chosen = TypeVar("Chosen", bound=Options)


class Fitted(NamedTuple):
    """A trained field and how it went."""

    field: Field
    progress: Progress
    psnr_train: float
    """dB on a subset of the training pixels."""
    psnr_heldout: float | None
    """dB on a subset of the held-out pixels; None without held-out photos."""
    occupancy: float
    """Share of the cube's cells that are occupied."""
    cameras: CameraSet | None = None
    """The training photos' refined cameras."""
    camera_change: CameraChange | None = None
    stepped_down: dict[str, float] | None = None
    """The options that were lowered to fit into memory, with the values that were used."""


def fit_radiance(poses: PoseSet, options: Options, context: Context) -> Fitted:
    """Train a HashDensityField on the pictures of the input `pose`. Raises as `fit_field`."""
    return fit_field(poses, options, context, new_field, RadianceLearner)


def fit_field(
    poses: PoseSet,
    options: Chosen,
    context: Context,
    new: Callable[[Chosen, int, bool], HashDensityField],
    learner_of: Callable[..., RadianceLearner],
) -> Fitted:
    """Train a field on the pictures of the input `pose`.

    Args:
        new: makes the untrained field of options and a seed, with or without a model of what lies outside.
        learner_of: what trains it, RadianceLearner or a subclass.

    Raises:
        DigitizeError(out_of_memory): the memory expected exceeds what the stage was given.
        DigitizeError(diverged, undecodable, wrong_size, too_few_images, cancelled, deadline).
    """
    heldout = poses.of_split("heldout")
    options, stepped_down = fitting(poses, options, context)
    torch.manual_seed(context.request.seed)
    device = context.device

    masked = any(image.mask for image in poses.of_split("train"))
    field = new(options, context.request.seed, not (options.mask_use == "empty" and masked))
    forbid_hidden(field.cells, poses, options.minimum_views, options.near)
    field.to(device)
    where, memory_gb = options.photos, options.photo_memory_gb
    bank = open_photos(poses, "train", where, memory_gb, context)
    heldout_bank = open_photos(poses, "heldout", where, memory_gb / 4, context) if heldout else None
    learner = learner_of(field, bank, heldout_bank, options, context.request.seed, device)
    try:
        with threads_of(context.threads):
            progress = train(learner, options, context)
            psnr_train = learner.evaluate_training()
    finally:
        bank.close()
    learner.finish()
    heldout_psnr = progress.history[-1]["psnr"] if heldout else None
    fitted = Fitted(field.eval(), progress, psnr_train, heldout_psnr, field.cells.share, stepped_down=stepped_down)
    if learner.cameras is None:
        return fitted
    refined = learner.cameras.refined(poses.of_split("train"), poses.world_from_field)
    return fitted._replace(cameras=refined, camera_change=learner.cameras.change())


def field_arguments(options: Options, outside: bool) -> dict[str, Any]:
    """What the fields of a hash encoding are made with, with or without a model of what lies outside their region."""
    return {
        "levels": options.levels,
        "base_resolution": options.base_resolution,
        "max_resolution": options.max_resolution << (options.cascades - 1),
        "log2_table": options.log2_table,
        "hidden": options.hidden,
        "features": FEATURES,
        "colour_layers": options.colour_layers,
        "occupancy_resolution": options.occupancy_resolution,
        "step": 2.0 * math.sqrt(3.0) / options.ray_steps,
        "background_levels": options.background_levels if outside else 0,
        "near": options.near,
        "cascades": options.cascades,
    }


def new_field(options: Options, seed: int, outside: bool) -> HashDensityField:
    """An untrained field."""
    field = HashDensityField(**field_arguments(options, outside))
    field.reset(torch.Generator().manual_seed(seed))
    return field
