"""`digitize render`: what it writes, and what it says when there is nothing to render."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from models.camera import PoseSet
from models.digest import canonical_json, sha256_file
from models.fields.representation import FieldRepresentation
from models.results import FileRef
from models.stage import Stage
from tasks.sample.scenes import fibonacci_cameras
from tests.flows.cli_stubs import commit_line, write_batch
from tests.flows.test_cli import ask, stubs, tell  # noqa: F401
from tests.models.fields.analytic import SphereField


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A batch whose asset has a ball as its trained field."""
    path = write_batch(tmp_path)
    dones = commit_line(path, "cup", until=Stage.TRAIN)
    scale = ((2.0, 0.0, 0.0, 0.0), (0.0, 2.0, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    poses = PoseSet(images=fibonacci_cameras(2, 24, 18, 7.0), world_from_field=scale)
    folders = {stage: tmp_path / "store" / done.ref.uri.removeprefix("store:") for stage, done in dones.items()}
    (folders[Stage.POSE] / "poses.json").write_bytes(canonical_json(poses))
    FieldRepresentation(SphereField(0.5)).save(folders[Stage.TRAIN] / "model")
    for stage in (Stage.POSE, Stage.TRAIN):
        files = [file for file in folders[stage].rglob("*") if file.is_file()]
        refs = [FileRef(path=f.relative_to(folders[stage]).as_posix(), sha256=sha256_file(f), bytes=1) for f in files]
        done = dones[stage].model_copy(update={"files": tuple(refs)})
        (tmp_path / "store" / done.prefix / "DONE.json").write_bytes(canonical_json(done))
    return path


def test_a_still_and_a_turntable(spec: Path, tmp_path: Path) -> None:
    document = ask("render", spec, "cup", tmp_path / "n.png", "--view", 1, "--what", "normals")
    assert document["path"] == str(tmp_path / "n.png")
    with Image.open(tmp_path / "n.png") as picture:
        assert picture.size == (24, 18)
    tell("render", spec, "cup", tmp_path / "t.mp4", "--turntable", "--frames", 2, "--size", 32)
    assert (tmp_path / "t.mp4").read_bytes()[4:8] == b"ftyp"


def test_what_cannot_be_rendered_is_told(spec: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.png"
    tell("render", spec, "cup", target, code=2)
    tell("render", spec, "cup", target, "--view", 0, "--turntable", code=2)
    assert "from 0 to 1, found 7" in ask("render", spec, "cup", target, "--view", 7, code=2)["error"]["message"]
    assert "nobody" in ask("render", spec, "nobody", target, "--view", 0, code=2)["error"]["message"]
    assert not target.exists()
    (tmp_path / "other").mkdir()
    untrained = write_batch(tmp_path / "other")
    commit_line(untrained, "cup", until=Stage.POSE)
    document = ask("render", untrained, "cup", target, "--view", 0, code=2)
    assert "train stage is not done" in document["error"]["message"]
