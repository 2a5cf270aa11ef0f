"""The entry point of the mask stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from models.record import Record
from models.results import StageRequest, StageResult
from models.spec import AssetSpec, AutomaticMasks, BatchSpec
from models.stage import Given, Inputs
from tasks import registry
from tasks.context import Context
from tasks.mask.options import NETWORK, MaskOptions
from tasks.saliency.u2net import is_installed

if TYPE_CHECKING:
    from models.camera import PoseSet
    from tasks.mask.gate import Judgement
    from tasks.mask.photos import MaskPhotos, PhotoMask

AFTER = ("ingest", "pose")
REFINES = ("pose",)


def run(request: StageRequest, context: Context) -> StageResult:
    """Find the object in every photo and fit the region of interest to it.

    Writes `masks/*.png`, `poses.json` and `mask.json`; in scene mode, when the masks cannot be believed, `mask.json`
    alone, which says why. Masks that the photos brought along (an alpha channel) are kept and nothing is searched.
    """
    from tasks.mask.photos import FOLDER, MaskPhotos
    from tasks.stage_files import read_poses, read_sparse

    method = registry.method(request.stage, request.method)
    options: MaskOptions = method.Options.model_validate(request.options)
    facts: dict[str, Any] = {"method": request.method, "weights_missing": options.weights_missing}
    if NETWORK in request.inputs:
        facts["network"] = request.inputs[NETWORK].files[0].sha256
    poses, points = read_poses(context), read_sparse(context)
    if any(image.mask for image in poses.images):
        return _write(context, {**facts, "scene_mode": False, "given": True})
    if points is None or any(image.image is None for image in poses.images):
        reasons = ["expected pictures and sparse points from the pose stage, found none"]
        return _write(context, {**facts, "scene_mode": True, "reasons": reasons})
    photos = MaskPhotos(poses, points, context)
    masks, judgement = method.find_masks(photos, options, context)
    facts |= {"scene_mode": bool(judgement.reasons), "reasons": list(judgement.reasons), **judgement.figures}
    if judgement.notes:
        facts["notes"] = list(judgement.notes)
    for state in ("trimmed", "mended", "carved", "dropped"):
        facts[state] = [poses.images[mask.index].name for mask in masks if mask.state == state]
    if judgement.reasons:
        shutil.rmtree(context.output / FOLDER, ignore_errors=True)
    else:
        facts |= _write_poses(context, photos, masks, judgement, options)
    return _write(context, facts, _rows(poses, masks))


def default_method(given: Given) -> str:
    """`saliency`, or `geometry` where that is asked for or there is no network: none given, no weights installed."""
    has_network = NETWORK in given.external or is_installed()
    return "geometry" if given.masks == AutomaticMasks.GEOMETRY or not has_network else "saliency"


def is_wanted(asset: AssetSpec) -> bool:
    """Where nobody drew masks, and nobody refused them."""
    return asset.given_masks is None and asset.masks is not AutomaticMasks.NONE


def inputs(options: Record, capture_kind: str) -> Inputs:
    """Pictures, cameras and sparse points."""
    return Inputs(required=("pose",))


def implied_options(asset: AssetSpec, batch: BatchSpec, resolve: Callable[[str], str]) -> dict[str, Any]:
    """That the weights are missing, where masks are automatic: the facts say why another method was taken."""
    return {"weights_missing": True} if asset.masks is AutomaticMasks.AUTO and not is_installed() else {}


def _write_poses(
    context: Context, photos: MaskPhotos, masks: Sequence[PhotoMask], judgement: Judgement, options: MaskOptions
) -> dict[str, Any]:
    """`poses.json` with the masks that are believed and the region fitted to them; facts about the region."""
    from models.artifacts import POSE_FACTS_FILE, POSES_FILE
    from models.digest import canonical_json
    from models.stage import Stage
    from tasks.mask.gate import level_frame, tolerance_px
    from tasks.mask.photos import mask_path
    from tasks.mask.region import fit_region
    from tasks.stage_files import read_facts

    poses = photos.poses
    believed = {mask.index for mask in masks if mask.state != "dropped"}
    images = tuple(
        image.model_copy(update={"mask": mask_path(image)}) if index in believed else image
        for index, image in enumerate(poses.images)
    )
    tolerance = tolerance_px(masks, judgement)
    changes: dict[str, Any] = {"images": images, "mask_tolerance_px": tolerance}
    by_hand = read_facts(context, Stage.POSE, POSE_FACTS_FILE).get("region_source") == "given"
    if judgement.bounds is not None and not by_hand:
        changes["world_from_field"] = fit_region(*judgement.bounds, level_frame(photos), options.region_margin)
    (context.output / POSES_FILE).write_bytes(canonical_json(poses.model_copy(update=changes)))
    return {"region_source": "given" if by_hand else "masks", "mask_tolerance_px": tolerance}


def _rows(poses: PoseSet, masks: Sequence[PhotoMask]) -> list[dict[str, Any]]:
    """What became of each photo."""
    return [
        {
            "name": poses.images[mask.index].name,
            "state": mask.state,
            "undecided": mask.undecided,
            "covered": round(float(mask.outline.mean()), 4),
        }
        for mask in masks
    ]


def _write(context: Context, facts: dict[str, Any], photos: Sequence[dict[str, Any]] = ()) -> StageResult:
    from models.artifacts import MASK_FACTS_FILE
    from models.digest import canonical_json

    context.output.mkdir(parents=True, exist_ok=True)
    (context.output / MASK_FACTS_FILE).write_bytes(canonical_json({**facts, "photos": list(photos)}))
    return StageResult(facts=facts)
