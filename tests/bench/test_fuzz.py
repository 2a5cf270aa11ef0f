"""The fuzz bench sees what it is there to see, and gives the same files for the same seed."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import fuzz
from bench.fuzz_mutate import MOST_TEXT, mutated
from bench.fuzz_readers import READERS, Reader, RefusedError, World


def test_the_same_seed_gives_the_same_files() -> None:
    def files() -> list[bytes]:
        rng = random.Random("1")
        return [mutated(b'{"a": [1, 2.5, "x"]}', b"<a>b</a>", rng, text=True) for _ in range(200)]

    once = files()
    assert once == files() and len(set(once)) > 150
    assert max(map(len, once)) <= MOST_TEXT


def test_every_valid_file_is_read_and_shares_make_a_whole(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.stack:
        for name, reader in READERS.items():
            for suffix, data in reader.seeds():
                refusal = fuzz._refused(reader, tmp_path / fuzz._file_name(suffix, "seed"), data, world)
                assert refusal == "", f"{name} {suffix}"
    assert sum(reader.share for reader in READERS.values()) == pytest.approx(1.0)


def _bad(path: Path, world: World) -> object:
    number = int(path.stem.removeprefix("f"))
    if number == 0:
        raise RefusedError
    if number == 1:
        raise KeyError("a defect")
    if number == 2:
        (world.folder.parent / "home" / "leaked").write_text("x")
    if number == 3:
        while True:
            pass
    return None


def _seeds() -> Iterator[tuple[str, bytes]]:
    yield ".bin", b"abc"


def test_defects_hangs_and_files_elsewhere_are_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(fuzz, "KEPT", tmp_path.parent / "kept")
    monkeypatch.setattr(fuzz, "HANG_S", 1)
    monkeypatch.setattr(fuzz.resource, "setrlimit", lambda *limits: None)
    monkeypatch.setattr("bench.fuzz_readers.READERS", {"bad": Reader(1.0, _seeds, _numbered)})
    monkeypatch.setattr("tasks.ingest.decoder.PHOTO_SECONDS", 60.0)  # set by the worker, and set back after the test
    before = signal.getsignal(signal.SIGALRM)
    try:
        fuzz.work(0, 50, 1, tmp_path)
    finally:
        signal.signal(signal.SIGALRM, before)
    told = capsys.readouterr().out
    assert "a defect" in told and "HangError" in told and "outside the scratch folder" in told
    assert told.count('"failure"') == 3 and '"refused": 1' in told


def _numbered(path: Path, world: World) -> object:
    return None if path.stem == "seed" else _bad(path, world)
