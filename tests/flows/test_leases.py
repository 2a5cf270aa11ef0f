"""Leases: one works, the other waits; a lost owner is noticed without comparing clocks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.status.files import is_lost
from flows.status.leases import Leases
from infra.storage import FolderStore
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.lease import Lease
from models.results import StageRequest, StageResult
from models.status import AssetStatus, Phase
from models.store import Store
from tasks.commit import run_stage
from tasks.context import Context
from tests.flows.helpers import environment, make_request, wait_until
from tests.support import make_context

REQUEST = make_request()
KEY = f"{REQUEST.prefix}/lease.json"


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def never() -> bool:
    return False


def commit(store: Store, folder: Path) -> None:
    def door(request: StageRequest, context: Context) -> StageResult:
        (context.output / "out").write_text("x")
        return StageResult()

    run_stage(door, REQUEST, make_context(REQUEST, folder, store))


def test_held_while_the_block_lasts(store: Store) -> None:
    leases = Leases(store, "run-1")
    with leases, leases.hold(REQUEST, never) as done:
        assert done is None
        held = Lease.model_validate_json(store.get_bytes(KEY) or b"")
        assert (held.pid, held.run) == (os.getpid(), "run-1")
    assert store.stat(KEY) is None


def test_the_second_waits_and_takes_the_commit_of_the_first(store: Store, tmp_path: Path) -> None:
    first, second = Leases(store), Leases(store)
    waited: list[Lease] = []
    entered = threading.Event()

    def work() -> None:
        with first.hold(REQUEST, never):
            entered.set()
            wait_until(lambda: bool(waited))
            commit(store, tmp_path)

    thread = threading.Thread(target=work)
    with first, second:
        thread.start()
        entered.wait()
        with second.hold(REQUEST, never, waited.append) as done:
            assert done is not None and done.files[0].path == "out"
        thread.join()
    assert len(waited) == 1
    assert store.stat(KEY) is None


def test_waiting_ends_with_a_cancel(store: Store) -> None:
    first, second = Leases(store), Leases(store)
    with first, second, first.hold(REQUEST, never):
        with pytest.raises(DigitizeError) as caught, second.hold(REQUEST, lambda: True):
            raise AssertionError("two runs hold one lease")
        assert caught.value.code is ReasonCode.CANCELLED
        assert store.stat(KEY) is not None


def elsewhere(**changes: object) -> Lease:
    return Lease(owner="o", host="another-machine", pid=1, born="1", run="ghost").model_copy(update=changes)


def test_a_heartbeat_that_stands_still_is_a_lost_run(store: Store) -> None:
    store.put_bytes(KEY, canonical_json(elsewhere(renewed_at=9e9)))  # its clock runs ahead by centuries
    adopted: list[Lease] = []
    leases = Leases(store, on_adopted=adopted.append, lost_after_s=3.0, clock=Clock())
    with leases, leases.hold(REQUEST, never) as done:
        assert done is None
        assert Lease.model_validate_json(store.get_bytes(KEY) or b"").pid == os.getpid()
    assert [lease.run for lease in adopted] == ["ghost"]


def test_a_heartbeat_that_moves_is_a_run_that_lives(tmp_path: Path) -> None:
    """However its own clock jumps: each look finds another beat."""
    store, beats = FolderStore(tmp_path), iter(range(4))

    def beat() -> bool:
        number = next(beats, None)
        if number is None:
            return True
        store.put_bytes(KEY, canonical_json(elsewhere(beat=number, renewed_at=1e9 * (-1) ** number)))
        return False

    beat()
    leases = Leases(store, lost_after_s=1.5, clock=Clock())
    with leases, pytest.raises(DigitizeError) as caught, leases.hold(REQUEST, beat):
        raise AssertionError("a living run lost its lease")
    assert caught.value.code is ReasonCode.CANCELLED


def test_an_owner_of_this_machine_that_has_ended_is_lost_at_once(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from flows.status.leases import Leases
from infra.storage import FolderStore
from tests.flows.helpers import make_request
with Leases(FolderStore(Path({str(tmp_path)!r}))) as leases:
    with leases.hold(make_request(), lambda: False):
        os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], env=environment(), check=False, timeout=60)
    store = FolderStore(tmp_path)
    assert store.stat(KEY) is not None
    leases = Leases(store, lost_after_s=1e9)
    with leases, leases.hold(REQUEST, never) as done:
        assert done is None


def test_the_keeper_beats_and_notices_a_takeover(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    leases = Leases(store, beat_s=0.05)
    with leases, leases.hold(REQUEST, never):
        wait_until(lambda: Lease.model_validate_json(store.get_bytes(KEY) or b"").beat > 1)
        thief = canonical_json(elsewhere(owner="thief"))
        store.put_bytes(KEY, thief)
        wait_until(lambda: not leases._held)
    assert store.get_bytes(KEY) == thief


def test_a_text_that_is_no_lease_is_nobodys(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes(KEY, b"half a wri")
    leases = Leases(store, lost_after_s=2.0, clock=Clock())
    with leases, leases.hold(REQUEST, never) as done:
        assert done is None


def test_a_status_from_the_future_is_a_ghosts(monkeypatch: pytest.MonkeyPatch) -> None:
    status = AssetStatus(batch="b", asset="a", phase=Phase.RUNNING, updated_at=5000.0)
    for now, lost in ((5010.0, False), (5121.0, True), (4990.0, False), (1000.0, True)):
        monkeypatch.setattr("flows.status.files.time.time", lambda now=now: now)
        assert is_lost(status) is lost
