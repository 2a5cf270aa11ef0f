"""From poses to a trained radiance field: read the photos, forbid the cells nobody sees, train."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from models.camera import PoseSet
from models.fields.base import Field
from models.fields.hash_field import HashField
from models.fields.representation import FieldRepresentation
from models.fields.threads import threads_of
from models.stage import Stage
from tasks.context import Context
from tasks.train.exposure import differ, measured_gains
from tasks.train.hash_learner import HashFieldLearner
from tasks.train.inputs import forbid_hidden, open_photos, settle_masks
from tasks.train.memory import fitting
from tasks.train.options import HashFieldOptions
from tasks.train.outcome import Trained, rounded
from tasks.train.trainer import Progress, train

if TYPE_CHECKING:
    from tasks.train.dense_prior import DensePrior

FEATURES = 16

Chosen = TypeVar("Chosen", bound=HashFieldOptions)


def fit_field(
    poses: PoseSet,
    options: Chosen,
    context: Context,
    new: Callable[[Chosen, int, bool], HashField],
    learner_of: Callable[..., HashFieldLearner],
) -> Trained:
    """Train a field on the pictures of the input `pose`.

    Args:
        new: makes the untrained field of options and a seed, with or without a model of what lies outside.
        learner_of: what trains it.

    Raises:
        DigitizeError(out_of_memory): the memory expected exceeds what the stage was given.
        DigitizeError(diverged, undecodable, wrong_size, too_few_images, cancelled, deadline).
    """
    found = poses
    poses, mask_use = settle_masks(poses, options.mask_use)
    gains = measured_gains(poses, context) if options.exposure == "auto" else None
    exposure = differ(gains) if options.exposure == "auto" else options.exposure
    options = options.model_copy(update={"mask_use": mask_use, "exposure": exposure})
    heldout = poses.of_split("heldout")
    options, stepped_down = fitting(poses, options, context)
    torch.manual_seed(context.request.seed)
    device = context.device

    masked = any(image.mask for image in poses.of_split("train"))
    field = new(options, context.request.seed, not (options.mask_use == "empty" and masked))
    forbid_hidden(field.cells, poses, options.minimum_views, options.near)
    prior = _prior(field, found, options, context)
    field.to(device)
    where, memory_gb = options.photos, options.photo_memory_gb
    bank = open_photos(poses, "train", where, memory_gb, context)
    heldout_bank = open_photos(poses, "heldout", where, memory_gb / 4, context) if heldout else None
    learner = learner_of(field, bank, heldout_bank, options, context.request.seed, device)
    if prior is not None:
        learner.start_from(prior.to(device))
    if exposure and gains is not None:
        learner.start_gains(torch.from_numpy(gains))
    try:
        with threads_of(context.threads):
            progress = train(learner, options, context)
            psnr_train = learner.evaluate_training()
    finally:
        bank.close()
    learner.finish()
    trained = trained_field(field, progress, psnr_train, bool(heldout), field.cells.share, stepped_down)
    if exposure:
        gain = learner.log_gain.detach()
        spread = float((gain - gain.mean(0)).square().mean().sqrt())
        trained = replace(trained, facts={**trained.facts, "exposure_spread": rounded(spread, 4)})
    if learner.cameras is None:
        return trained
    refined = learner.cameras.refined(poses.of_split("train"), poses.world_from_field)
    change = {name: rounded(value, 5) for name, value in learner.cameras.change()._asdict().items()}
    return replace(trained, cameras=refined, facts={**trained.facts, "camera_change": change})


def _prior(field: HashField, poses: PoseSet, options: HashFieldOptions, context: Context) -> DensePrior | None:
    """What dense stereo found, if that is wanted and the stage ran; the field's free cells are then forbidden."""
    if not options.dense_prior or str(Stage.DENSE) not in context.request.inputs:
        return None
    from tasks.train.dense_prior import read_dense_prior

    # free space is voted on with a tolerance: found masks serve there even where training ignores them
    masks = poses.mask_tolerance_px > 0 or options.mask_use == "empty"
    whole = poses.mask_tolerance_px > 0 and options.mask_use == "ignore"
    found = read_dense_prior(poses, options.occupancy_resolution, masks, whole, context)
    if found is not None:
        free = torch.zeros(field.cells.allowed.shape, dtype=torch.bool)
        free[0] = found.free
        field.cells.forbid(free)
    return found


def trained_field(
    field: Field,
    progress: Progress,
    psnr_train: float,
    heldout: bool,
    occupancy: float,
    lowered: Mapping[str, Any] | None = None,
) -> Trained:
    """A trained field and how it went.

    Args:
        psnr_train: dB on a subset of the training pixels.
        heldout: whether the training loop's evaluations were on held-out photos.
        occupancy: share of the cube's cells that are occupied.
    """
    facts: dict[str, Any] = {
        "steps": progress.step,
        "rays": progress.rays,
        "samples": progress.samples,
        "divergences": progress.divergences,
        "psnr_train": rounded(psnr_train),
        "psnr_heldout": rounded(progress.history[-1]["psnr"]) if heldout else None,
        "occupancy": rounded(occupancy, 5),
        "level": field.level,
    }
    speed = {"samples_per_s": round(progress.samples / progress.seconds)} if progress.seconds > 0 else {}
    model = FieldRepresentation(field.eval())
    return Trained(model, facts, speed, progress.history, progress.curve, lowered=lowered or {})


def field_arguments(options: HashFieldOptions, outside: bool) -> dict[str, Any]:
    """What the fields of a hash encoding are made with, with or without a model of what lies outside their region."""
    return {
        "levels": options.levels,
        "base_resolution": options.base_resolution,
        "max_resolution": options.max_resolution,
        "log2_table": options.log2_table,
        "hidden": options.hidden,
        "features": FEATURES,
        "colour_layers": options.colour_layers,
        "occupancy_resolution": options.occupancy_resolution,
        "step": 2.0 * math.sqrt(3.0) / options.ray_steps,
        "background_levels": options.background_levels if outside else 0,
        "background": options.background,
        "near": options.near,
    }
