"""Where the files of a stage come from: the stage itself, or the last stage that refines it and has the file.

A stage that refines `pose` (masks, a better region) writes files of the same names; whatever it leaves out is still the
pose stage's. Stages read each other through these functions alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifacts import EXPORT_FILE, INDEX_FILE, LENSES_FILE, MODEL_FOLDER, POINTS_FILE, POSES_FILE, SCALE_FILE
from models.camera import LensSet, PoseSet
from models.errors import DigitizeError, ReasonCode
from models.exports import ExportIndex
from models.photos import PhotoIndex
from models.points import SparsePoints
from models.representation import REPRESENTATION_FILE, Representation, load_representation
from models.scale import MeasuredScale
from models.stage import Stage
from tasks import registry
from tasks.context import Context


def source_of(context: Context, stage: Stage, path: str) -> str | None:
    """The input that gives file `path` of `stage`; None where none has it."""
    family = [name for name in (stage, *registry.refiners(stage)) if name in context.request.inputs]
    return next((name for name in reversed(family) if context.input(name).has(path)), None)


def fetch(context: Context, stage: Stage, path: str) -> Path:
    """A local copy of file `path` of `stage`. Raises DigitizeError(source_not_found) when no stage has it."""
    name = source_of(context, stage, path)
    if name is None:
        message = f"expected {path} from stage {stage}, found none"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, asset=context.request.asset, path=path)
    return context.fetch(name, path)


def read_photos(context: Context) -> PhotoIndex:
    """The photos that ingest took in."""
    return PhotoIndex.read(fetch(context, Stage.INGEST, INDEX_FILE))


def read_poses(context: Context) -> PoseSet:
    """The geometry of the capture."""
    return PoseSet.model_validate_json(fetch(context, Stage.POSE, POSES_FILE).read_bytes())


def read_lenses(context: Context) -> LensSet:
    """The lenses of the photos that were undistorted."""
    return LensSet.model_validate_json(fetch(context, Stage.POSE, LENSES_FILE).read_bytes())


def read_scale(context: Context) -> MeasuredScale:
    """The size of the asset in metres, as far as it is known."""
    return MeasuredScale.model_validate_json(fetch(context, Stage.SCALE, SCALE_FILE).read_bytes())


def read_exports(context: Context) -> ExportIndex:
    """The files that are published of the model, the points and the cameras."""
    return ExportIndex.model_validate_json(fetch(context, Stage.EXPORT, EXPORT_FILE).read_bytes())


def fetch_picture(context: Context, path: str) -> Path:
    """An undistorted picture or its mask, under the name that the PoseSet gives it."""
    return fetch(context, Stage.POSE, path)


def read_points(context: Context) -> dict[str, npt.NDArray[np.float64]] | None:
    """The sparse points' `xyz` and `rgb`, [P, 3] each; None when no stage has any."""
    if source_of(context, Stage.POSE, POINTS_FILE) is None:
        return None
    with np.load(fetch(context, Stage.POSE, POINTS_FILE)) as data:
        return {"xyz": data["xyz"], "rgb": data["rgb"]}


def read_visibility(context: Context, images: int) -> npt.NDArray[np.bool_] | None:
    """[I, P] which of the poses' `images` see which sparse point; None when no stage has any points."""
    if source_of(context, Stage.POSE, POINTS_FILE) is None:
        return None
    with np.load(fetch(context, Stage.POSE, POINTS_FILE)) as data:
        first, index = data["visible_ptr"], data["visible_idx"]
    seen = np.zeros((images, len(first) - 1), bool)
    seen[index, np.repeat(np.arange(len(first) - 1), np.diff(first))] = True
    return seen


def read_sparse(context: Context) -> SparsePoints | None:
    """The sparse points with the images that see them; None when no stage has any."""
    if source_of(context, Stage.POSE, POINTS_FILE) is None:
        return None
    return SparsePoints.read(fetch(context, Stage.POSE, POINTS_FILE))


def has_model(context: Context) -> bool:
    """Whether the train stage ran for this asset."""
    return source_of(context, Stage.TRAIN, f"{MODEL_FOLDER}/{REPRESENTATION_FILE}") is not None


def load_model(context: Context) -> Representation:
    """What the train stage handed on. Raises DigitizeError(source_not_found) when it did not run."""
    name = source_of(context, Stage.TRAIN, f"{MODEL_FOLDER}/{REPRESENTATION_FILE}")
    if name is None:
        message = "expected the train stage's model, found none"
        raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, asset=context.request.asset)
    return load_representation(context.fetch_folder(name, MODEL_FOLDER), context.device)


def read_facts(context: Context, stage: Stage, path: str) -> dict[str, Any]:
    """The facts that a stage wrote as JSON; empty where no input has the file."""
    if source_of(context, stage, path) is None:
        return {}
    found: dict[str, Any] = json.loads(fetch(context, stage, path).read_bytes())
    return found
