"""A file that kills, hangs or bloats its decoder costs itself alone; children end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.errors import DigitizeError, ReasonCode
from models.photos import RejectedPhoto
from tasks.ingest.decoder import Decoder, DecoderError
from tasks.ingest.options import IngestOptions
from tasks.ingest.select import Candidate
from tasks.ingest.staging import PhotoTask, stage_photo
from tests.tasks.ingest.pictures import ingest, save_set

_PATCH = """
import ctypes, os, signal, sys, time
import tasks.ingest.staging as staging
real = staging.decode
def _open(n):
    try:
        return os.fstat(n) and True
    except OSError:
        return False
def fault():
    {fault}
def decode(path, name, most):
    if "bad" in name:
        fault()
    return real(path, name, most)
staging.decode = decode
from tasks.ingest.decoder_child import main
main()
"""
FAULTS: dict[str, tuple[str, str]] = {
    "a crash": ("ctypes.string_at(0)", "it crashed (SIGSEGV)"),
    "an abort": ("os.abort()", "it crashed (SIGABRT)"),
    "a bus error": ("os.kill(os.getpid(), signal.SIGBUS)", "it crashed (SIGBUS)"),
    "an endless loop": ("\n    while True: pass", "it had not finished after"),
    "a wait": ("time.sleep(3600)", "it had not finished after"),
    "an exit": ("os._exit(7)", "exit status 7"),
    "no answer": ("[os.write(n, b'\\xff' * 99) for n in range(3, 9) if _open(n)]\n    time.sleep(60)", "no answer"),
    "memory": ("bytearray(1 << 40)", "GB of memory"),
    "memory bit by bit": ("x = []\n    while True: x.append(bytearray(1 << 24))", "GB of memory"),
    "the system's kill": ("os.kill(os.getpid(), signal.SIGKILL)", "it was killed"),
}


def task(folder: Path, name: str) -> PhotoTask:
    (path,) = save_set(folder / "in", 1)
    return PhotoTask(name=name, stem="a", path=path, folder=folder / "staged", options=IngestOptions())


def patched(fault: str) -> Decoder:
    return Decoder(1_000_000, lambda: None, [sys.executable, "-c", _PATCH.format(fault=fault)])


@pytest.mark.parametrize("name", FAULTS)
def test_a_fatal_file_costs_itself_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, words = FAULTS[name]
    # a large child would stay the peak of this process's children, which other tests read
    monkeypatch.setattr("tasks.ingest.decoder.BASE_BYTES", 3 << 28)
    decoder = patched(fault)
    try:
        good = decoder.photo(task(tmp_path, "good.jpg"))
        with monkeypatch.context() as bounded:
            # what never ends is waited for no longer than it takes to tell; good photos have all the time they need
            bounded.setattr("tasks.ingest.decoder.PHOTO_SECONDS", 3.0 if words == "it had not finished after" else 60.0)
            bad = decoder.photo(task(tmp_path, "bad.jpg"))
        again = decoder.photo(task(tmp_path, "good.jpg"))
    finally:
        decoder.close()
    assert isinstance(good, Candidate) and isinstance(again, Candidate)
    assert isinstance(bad, RejectedPhoto) and bad.code is ReasonCode.UNDECODABLE and words in bad.message


def test_a_kill_from_outside_is_tried_once_more(tmp_path: Path) -> None:
    flag = tmp_path / "killed"
    once = f"\n    if not os.path.exists({str(flag)!r}):\n        open({str(flag)!r}, 'w').close()\n"
    decoder = patched(f"{once}        os.kill(os.getpid(), signal.SIGKILL)")
    try:
        assert isinstance(decoder.photo(task(tmp_path, "bad.jpg")), Candidate)
    finally:
        decoder.close()
    assert decoder.deaths == 1


def test_a_defect_is_one_and_not_the_photos_fault(tmp_path: Path) -> None:
    decoder = patched("raise KeyError('x')")
    try:
        with pytest.raises(RuntimeError, match="KeyError"):
            decoder.photo(task(tmp_path, "bad.jpg"))
    finally:
        decoder.close()


def test_what_is_not_the_photos_fault_is_raised(tmp_path: Path) -> None:
    decoder = Decoder(1_000_000, lambda: None)
    wrong = task(tmp_path, "a.jpg").model_copy(update={"sha256": "0" * 64})
    try:
        with pytest.raises(DigitizeError, match="planned") as caught:
            decoder.photo(wrong)
        assert caught.value.code is ReasonCode.CHECKSUM_MISMATCH and caught.value.retryable
        assert isinstance(decoder.photo(task(tmp_path, "a.jpg")), Candidate)
    finally:
        decoder.close()


def test_the_child_finds_what_the_same_code_finds_here(tmp_path: Path) -> None:
    one = task(tmp_path, "a.jpg")
    here = stage_photo(one)
    bytes_here = (tmp_path / "staged/a.jpg").read_bytes()
    decoder = Decoder(1_000_000, lambda: None)
    try:
        there = decoder.photo(one)
    finally:
        decoder.close()
    assert isinstance(here, Candidate) and isinstance(there, Candidate)
    assert np.array_equal(here.thumb, there.thumb) and bytes_here == (tmp_path / "staged/a.jpg").read_bytes()
    same = [name for name in here.__dataclass_fields__ if name != "thumb"]
    assert [getattr(here, name) for name in same] == [getattr(there, name) for name in same]


def test_a_child_that_is_busy_stops_when_the_stage_is_asked_to(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise StopError

    decoder = Decoder(1_000_000, check, [sys.executable, "-c", "import time; time.sleep(3600)"])
    with pytest.raises(StopError):
        decoder.ask({}, 3600.0)
    assert decoder._process is None


def test_a_child_that_is_not_there_is_named() -> None:
    decoder = Decoder(1_000_000, lambda: None, [sys.executable, "-c", "raise SystemExit(9)"])
    with pytest.raises(DecoderError, match="exit status 9"):
        decoder.ask({}, 60.0)


def test_a_child_that_closes_its_answers_and_goes_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ingest.decoder._LAST_BREATH_S", 0.3)
    script = "import os, time; os.close(1); time.sleep(3600)"
    with pytest.raises(DecoderError, match="closed its answers"):
        Decoder(1_000_000, lambda: None, [sys.executable, "-c", script]).ask({}, 60.0)


def test_no_secret_and_no_orphan(tmp_path: Path) -> None:
    """The child of a process that is killed ends, busy as it is; it never knew the store's credentials."""
    script = (
        "import sys, threading, time\n"
        "from tasks.ingest.decoder import Decoder\n"
        "child = 'import os, sys, time; from tasks.ingest import decoder_child as c; c._end_with(int(sys.argv[2])); '"
        ' \'print(dict(os.environ), file=open("env", "w"), flush=True); \''
        ' \'print(os.getpid(), file=open("pid", "w"), flush=True); time.sleep(3600)\'\n'
        "Decoder(1, lambda: None, [sys.executable, '-c', child]).ask({}, 3600)\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    secrets = {"AWS_SECRET_ACCESS_KEY": "hush", "DIGITIZE_UPLOADS_PUSH_TOKEN": "x"}
    environment = {**os.environ, "PYTHONPATH": root, **secrets}
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    for _ in range(600):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.1)
    child = int((tmp_path / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not _alive(child):
            break
        time.sleep(0.1)
    assert not _alive(child)
    assert "hush" not in (tmp_path / "env").read_text() and "PUSH_TOKEN" not in (tmp_path / "env").read_text()


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_stage_goes_on_without_a_fatal_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_set(tmp_path / "in", 4)
    save_set(tmp_path / "more", 5)
    (tmp_path / "more/photo_4.jpg").rename(tmp_path / "in/bad.jpg")
    command = [sys.executable, "-c", _PATCH.format(fault="ctypes.string_at(0)")]
    monkeypatch.setattr("tasks.ingest.decoder.Decoder.__init__.__defaults__", (command,))
    _, index, _ = ingest(tmp_path / "in", tmp_path / "work")
    assert len(index.photos) == 4 and [photo.name for photo in index.rejected] == ["bad.jpg"]
    assert "SIGSEGV" in index.rejected[0].message
