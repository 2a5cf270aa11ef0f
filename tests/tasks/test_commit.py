"""Run in scratch, commit once, adopt the winner, resume from checkpoints."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from models.results import ArtifactRef, StageRequest, StageResult
from models.stage import Stage
from models.store import Store
from tasks import commit
from tasks.context import Context
from tests.support import make_context

REQUEST = StageRequest(asset="pot", stage=Stage.POSE, method="m", version="1", options={"a": 1}, seed=3)


def write_one(request: StageRequest, context: Context) -> StageResult:
    (context.output / "sub").mkdir()
    (context.output / "sub/file.txt").write_text(f"seed {request.seed}")
    return StageResult(facts={"n": 1})


def test_second_call_reuses(tmp_path: Path, store: Store) -> None:
    first = commit.run_stage(write_one, REQUEST, make_context(REQUEST, tmp_path / "1", store))

    def never(request: StageRequest, context: Context) -> StageResult:
        raise AssertionError("a committed stage ran again")

    assert commit.run_stage(never, REQUEST, make_context(REQUEST, tmp_path / "2", store)) == first
    later = make_context(REQUEST.model_copy(update={"inputs": {"pose": first.ref}}), tmp_path / "3", store)
    assert later.fetch("pose", "sub/file.txt").read_text() == "seed 3"
    assert (later.fetch_folder("pose", "sub") / "file.txt").is_file()
    assert later.done("pose") == first


def test_digest_is_of_content_alone(tmp_path: Path, store: Store) -> None:
    one = commit.run_stage(write_one, REQUEST, make_context(REQUEST, tmp_path / "1", store))
    other = REQUEST.model_copy(update={"options": {"a": 2}})
    two = commit.run_stage(write_one, other, make_context(other, tmp_path / "2", store))
    assert one.key != two.key
    assert one.digest == two.digest


def test_key_ignores_resources_and_places() -> None:
    ref = ArtifactRef(digest="d", uri="store:here")
    a = REQUEST.model_copy(update={"inputs": {"x": ref}})
    b = a.model_copy(
        update={
            "inputs": {"x": ref.model_copy(update={"uri": "store:there"})},
            "resources": REQUEST.resources.model_copy(update={"cpus": 8.0}),
        }
    )
    assert a.key == b.key
    assert a.key != a.model_copy(update={"seed": 4}).key
    assert a.key != a.model_copy(update={"version": "2"}).key


def test_race_has_one_winner_and_no_loser_left(tmp_path: Path, store: Store) -> None:
    barrier = threading.Barrier(3)
    dones = []

    def slow(request: StageRequest, context: Context) -> StageResult:
        barrier.wait()
        return write_one(request, context)

    def attempt(i: int) -> None:
        dones.append(commit.run_stage(slow, REQUEST, make_context(REQUEST, tmp_path / str(i), store)))

    threads = [threading.Thread(target=attempt, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({done.attempt for done in dones}) == 1
    left = {stat.key.split("/")[-3] for stat in store.list(f"{REQUEST.prefix}/attempts/")}
    assert left == {dones[0].attempt}


def test_failure_commits_nothing_and_keeps_checkpoints(tmp_path: Path, store: Store) -> None:
    def fails(request: StageRequest, context: Context) -> StageResult:
        (context.scratch / "c").write_bytes(b"half way")
        context.save_checkpoint("state.bin", context.scratch / "c")
        raise DigitizeError(ReasonCode.DIVERGED, "no")

    def resumes(request: StageRequest, context: Context) -> StageResult:
        found = context.load_checkpoint("state.bin")
        assert found is not None
        (context.output / "out").write_bytes(found.read_bytes())
        return StageResult()

    with pytest.raises(DigitizeError):
        commit.run_stage(fails, REQUEST, make_context(REQUEST, tmp_path / "1", store))
    assert commit.find_done(store, REQUEST) is None
    done = commit.run_stage(resumes, REQUEST, make_context(REQUEST, tmp_path / "2", store))
    assert store.get_bytes(done.ref.uri.removeprefix("store:") + "/out") == b"half way"
    assert list(store.list(f"{REQUEST.prefix}/checkpoints/")) == []


@pytest.mark.parametrize("notices", [False, True])
def test_a_damaged_input_is_named_whether_the_stage_notices_or_not(tmp_path: Path, notices: bool) -> None:
    store = FolderStore(tmp_path / "store")
    ref = commit.run_stage(write_one, REQUEST, make_context(REQUEST, tmp_path / "1", store)).ref
    (store.root / ref.uri.removeprefix("store:") / "sub/file.txt").write_text("rotten")
    reader = REQUEST.model_copy(update={"stage": Stage.TRAIN, "inputs": {"pose": ref}})

    def reads(request: StageRequest, context: Context) -> StageResult:
        text = context.fetch("pose", "sub/file.txt").read_text()
        if notices:
            raise ValueError(text)
        return StageResult()

    with pytest.raises(DigitizeError) as caught:
        commit.run_stage(reads, reader, make_context(reader, tmp_path / "2", store))
    assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH and caught.value.asset == "pot"
    assert (caught.value.path or "").endswith("sub/file.txt")
    assert commit.find_done(store, reader) is None


def test_forget_runs_again(tmp_path: Path, store: Store) -> None:
    first = commit.run_stage(write_one, REQUEST, make_context(REQUEST, tmp_path / "1", store))
    commit.forget(store, REQUEST)
    second = commit.run_stage(write_one, REQUEST, make_context(REQUEST, tmp_path / "2", store))
    assert second.attempt != first.attempt
    assert second.digest == first.digest


def test_remote_input_is_checked(tmp_path: Path, s3_bucket: str) -> None:
    from infra.storage import S3Store

    store = S3Store(s3_bucket)
    done = commit.run_stage(write_one, REQUEST, make_context(REQUEST, tmp_path / "1", store))
    store.put_bytes(done.ref.uri.removeprefix("store:") + "/sub/file.txt", b"tampered")
    context = make_context(REQUEST.model_copy(update={"inputs": {"pose": done.ref}}), tmp_path / "2", store)
    with pytest.raises(DigitizeError) as caught:
        context.fetch("pose", "sub/file.txt")
    assert caught.value.code == ReasonCode.CHECKSUM_MISMATCH


def test_context_stops_on_cancel_and_deadline(tmp_path: Path) -> None:
    with pytest.raises(DigitizeError, match="cancelled"):
        make_context(REQUEST, tmp_path, cancelled=lambda: True).check()
    with pytest.raises(DigitizeError) as caught:
        make_context(REQUEST, tmp_path, deadline=1.0).check()
    assert caught.value.code == ReasonCode.DEADLINE
