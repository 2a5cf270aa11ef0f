"""`render`: a picture or a turntable video of what the train stage made."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.output import DebugOption, JsonOption, SpecArgument, reporting
from models.errors import DigitizeError, ReasonCode

if TYPE_CHECKING:
    from models.results import Done
    from models.store import Store


class What(StrEnum):
    """What a pixel shows."""

    RGB = "rgb"
    DEPTH = "depth"
    NORMALS = "normals"


def render(
    spec: SpecArgument,
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="The asset's id.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The picture (.png, .jpg) or video (.mp4) to write.")],
    turntable: Annotated[bool, typer.Option("--turntable", help="A video once around the object.")] = False,
    view: Annotated[int | None, typer.Option("--view", metavar="N", help="What the camera of photo N sees.")] = None,
    what: Annotated[What, typer.Option("--what", help="Colour, depth or surface normals.")] = What.RGB,
    frames: Annotated[int, typer.Option(min=1, help="Frames of the video, 30 a second.")] = 120,
    size: Annotated[int, typer.Option(min=16, help="Edge of the video in pixels, even.")] = 512,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Render the trained model of an asset: `--view N` for a picture, `--turntable` for a video."""
    with reporting("render", json, debug) as out:
        if turntable == (view is not None):
            raise typer.BadParameter("expected either --turntable or --view N")
        if size % 2:
            raise typer.BadParameter(f"expected an even --size, found {size}")
        from flows.plan.captures import load_batch
        from flows.status.account import stage_done, status_in
        from infra.storage import open_store
        from models.stage import Stage
        from tasks import registry

        spec_file = load_batch(spec)
        store = open_store(spec_file.resolve(spec_file.spec.store))
        status = status_in(spec_file, store, asset)
        family = (Stage.POSE, *registry.refiners(Stage.POSE))
        poses = [done for stage in family if (done := stage_done(store, status, stage)) is not None]
        train = stage_done(store, status, Stage.TRAIN)
        if not poses or train is None:
            message = "expected a trained model, found none: the train stage is not done"
            raise DigitizeError(ReasonCode.SOURCE_NOT_FOUND, message, f"digitize run {spec}", asset=asset)
        _write(store, poses, train, target, view, what, frames, size)
        out.say(f"{what.value} written to {target}")
        out.document = {"asset": asset, "path": str(target), "what": what.value}


def _write(
    store: Store, poses_of: list[Done], train: Done, target: Path, view: int | None, what: What, frames: int, size: int
) -> None:
    from models.artifacts import MODEL_FOLDER, POSES_FILE
    from models.camera import PoseSet
    from models.representation import load_representation
    from tasks.train.turntable import still, turntable

    pose = next(done for done in reversed(poses_of) if done.ref.has(POSES_FILE))
    parts = [file.path for file in train.files if file.path.startswith(f"{MODEL_FOLDER}/")]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for done, name in ((pose, POSES_FILE), *((train, path) for path in parts)):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            store.get_file(f"{done.ref.uri.removeprefix('store:')}/{name}", here / name)
        poses = PoseSet.model_validate_json((here / POSES_FILE).read_bytes())
        model = load_representation(here / MODEL_FOLDER)
        if view is None:
            turntable(model, poses, target, frames, size, what.value)
        else:
            still(model, poses, target, view, what.value)
