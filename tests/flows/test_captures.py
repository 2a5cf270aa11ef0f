"""Captures that appear: when they are complete, and what they become."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flows.plan.captures import Capture, asset_id, find_captures, gather, load_batch
from infra.storage import open_store
from models.errors import DigitizeError, ReasonCode
from models.spec import Preset
from models.spec_yaml import SpecFile, load_spec
from models.store import Store

NOW = time.time()


def spec(folder: Path, under: str, extra: str = "") -> SpecFile:
    path = folder / "batch.yaml"
    place = f"captures:\n  - {{under: '{under}', scale: {{kind: none}}, quiet_minutes: 10}}\n"
    path.write_text(f"name: shelf\n{place}{extra}")
    return load_spec(path)


def only(captures: list[Capture]) -> Capture:
    assert len(captures) == 1
    return captures[0]


def test_complete_by_manifest(store: Store, tmp_path: Path) -> None:
    """The same rules on a folder and on S3."""
    batch = spec(tmp_path, store.uri)
    store.put_bytes("cup/a.jpg", b"1")
    store.put_bytes("cup/.b.jpg.part", b"half")
    assert not only(find_captures(batch)).is_complete(time.time())
    store.put_bytes("cup/capture.json", b'{"files": [{"path": "a.jpg", "bytes": 1}, {"path": "sub/b.jpg"}]}')
    late = only(find_captures(batch))
    assert late.missing() == ["sub/b.jpg"] and not late.is_complete(NOW + 1e6)
    store.put_bytes("cup/sub/b.jpg", b"2")
    done = only(find_captures(batch))
    assert done.is_complete(NOW) and done.photos == 2
    assert done.digest == only(find_captures(batch, ["cup"])).digest != late.digest
    assert find_captures(batch, ["jug"]) == []


def test_complete_by_silence(tmp_path: Path) -> None:
    batch = spec(tmp_path, "uploads")
    photo = tmp_path / "uploads" / "cup" / "a.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"1")
    os.utime(photo, (NOW - 540, NOW - 540))
    capture = only(find_captures(batch))
    assert not capture.is_complete(NOW)
    assert capture.is_complete(NOW + 61)


@pytest.mark.parametrize(
    ("text", "problem"), [(b"{", "JSON"), (b'{"files": [{"name": "a"}]}', "files.0.path"), (b"\xff", "")]
)
def test_a_manifest_that_cannot_be_read_waits_and_says_why(tmp_path: Path, text: bytes, problem: str) -> None:
    batch = spec(tmp_path, "uploads")
    store = open_store(str(tmp_path / "uploads"))
    store.put_bytes("cup/a.jpg", b"1")
    store.put_bytes("cup/capture.json", text)
    capture = only(find_captures(batch))
    assert problem in capture.problem and capture.problem and not capture.is_complete(NOW + 1e6)


def test_nothing_but_a_manifest_is_no_capture(tmp_path: Path) -> None:
    batch = spec(tmp_path, "uploads")
    open_store(str(tmp_path / "uploads")).put_bytes("cup/capture.json", b"{}")
    assert not only(find_captures(batch)).is_complete(NOW + 1e6)


def test_the_manifest_chooses(tmp_path: Path) -> None:
    batch = spec(tmp_path, "uploads", "assets: [{id: own, photos: own, scale: {kind: none}}]\n")
    store = open_store(str(tmp_path / "uploads"))
    store.put_bytes("Vase Nº 3/a.jpg", b"1")
    store.put_bytes("Vase Nº 3/capture.json", b'{"preset": "high"}')
    store.put_bytes("late/a.jpg", b"1")
    gathered = gather(batch)
    own, vase = gathered.spec_file.spec.assets
    assert own.id == "own"
    assert vase.id == asset_id("Vase Nº 3") and vase.id.startswith("vase-n")
    assert vase.preset is Preset.HIGH and vase.scale.kind == "none"
    assert vase.photos == f"{tmp_path}/uploads/Vase Nº 3"
    assert [capture.asset for capture in gathered.waiting] == ["late"]


def test_ids_never_collide() -> None:
    names = ["cup", "Cup", "cup ", "CUP", "cup-1", "cüp", "杯", "杯子", "a" * 100, "a" * 101, "A" * 101]
    assert len({asset_id(name) for name in names}) == len(names)
    assert asset_id("cup") == "cup"


def test_an_id_that_is_taken_is_refused(tmp_path: Path) -> None:
    batch = spec(tmp_path, "uploads", "assets: [{id: cup, photos: own, scale: {kind: none}}]\n")
    open_store(str(tmp_path / "uploads")).put_bytes("cup/a.jpg", b"1")
    with pytest.raises(DigitizeError, match="another 'cup'"):
        gather(batch)


def test_nothing_complete_yet_is_said(tmp_path: Path) -> None:
    batch = spec(tmp_path, "uploads")
    with pytest.raises(DigitizeError, match="found 0 that are not complete") as caught:
        load_batch(batch.path)
    assert caught.value.code is ReasonCode.SOURCE_EMPTY


def test_a_batch_needs_assets_or_places(tmp_path: Path) -> None:
    (tmp_path / "batch.yaml").write_text("name: shelf\n")
    with pytest.raises(DigitizeError, match="at least one asset"):
        load_spec(tmp_path / "batch.yaml")


def test_mistakes_of_a_place_are_found_before_anything_is_there(tmp_path: Path) -> None:
    from flows.plan.validate import check_spec

    path = tmp_path / "batch.yaml"
    place = "{under: uploads, scale: {kind: none}, stages: {train: {options: {stepz: 3}}}}"
    text = f"name: shelf\ncaptures:\n  - {place}\n"
    path.write_text(text)
    (mistake,) = check_spec(path).mistakes
    assert "stepz" in mistake.message
    path.write_text(text.replace("stepz", "steps"))
    assert check_spec(path).mistakes == () and list(check_spec(path).stages) == ["captures-0"]
