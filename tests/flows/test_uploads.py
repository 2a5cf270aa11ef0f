"""Uploads: one run a capture and content, whatever the events do. On folders; servers are in test_uploads_events.py."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from flows.uploads.poller import Round
from infra.inbox import CLAIM_S
from infra.storage import FolderStore
from models.errors import DigitizeError, ReasonCode
from tests.flows.uploads_place import Place, event, rounds


@pytest.fixture
def bench(tmp_path: Path) -> Place:
    return Place(tmp_path, str(tmp_path / "uploads"))


def test_the_manifest_starts_exactly_one_run(bench: Place) -> None:
    bench.photos("cup", "a.jpg", "b.jpg")
    poller = bench.poller()
    assert rounds(poller).waiting == ["cup"]
    bench.complete("cup", "a.jpg", "b.jpg")
    bench.inbox.hint(["cup"])
    assert list(rounds(poller).launched) == ["cup"]
    for _ in range(3):
        bench.inbox.hint(["cup"])
        assert rounds(poller).launched == {}
    assert list(bench.launches.keys.values()) == [1]
    assert bench.launches.photos == {"cup": 2}


def test_silence_starts_it_too(bench: Place) -> None:
    bench.photos("cup", "a.jpg")
    bench.clock.now += 300
    poller = bench.poller()
    assert rounds(poller).waiting == ["cup"]
    bench.clock.now += 301
    assert list(rounds(poller).launched) == ["cup"]


def test_events_in_any_order_any_number_and_some_lost(bench: Place, tmp_path: Path) -> None:
    """The uploads of ten captures, and their events shuffled, doubled and lost, between rounds of two pollers."""
    dice = random.Random(0)
    one, two = bench.poller(sweep_s=30), bench.poller(sweep_s=30)
    messages = []
    for number in range(10):
        names = [f"{i}.jpg" for i in range(3)]
        for name in dice.sample([*names, "capture.json"], 4):
            messages.append((f"cup-{number}", name, names))
    dice.shuffle(messages)
    for asset, name, names in messages:
        bench.complete(asset, *names) if name == "capture.json" else bench.photos(asset, name)
        for _ in range(dice.choice([0, 1, 1, 2])):
            bench.inbox.hint([asset])
        if dice.random() < 0.5:
            rounds(dice.choice([one, two]))
    for _ in range(6):
        bench.clock.now += 31
        rounds(one)
        rounds(two)
    assert sorted(key.split(":")[1] for key in bench.launches.keys) == sorted(f"cup-{n}" for n in range(10))
    assert set(bench.launches.keys.values()) == {1}
    assert bench.inbox.hinted() == {}


def test_a_new_photo_after_the_run_is_another_run(bench: Place) -> None:
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    poller = bench.poller()
    rounds(poller)
    bench.photos("cup", "b.jpg")
    bench.inbox.hint(["cup"])
    rounds(poller)
    assert list(bench.launches.keys.values()) == [1, 1] and bench.launches.photos == {"cup": 2}


def test_many_pollers_one_run(bench: Place) -> None:
    for number in range(5):
        bench.photos(f"cup-{number}", "a.jpg")
        bench.complete(f"cup-{number}")
    pollers = [bench.poller() for _ in range(4)]
    threads = [threading.Thread(target=rounds, args=(poller,)) for poller in pollers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.launches.keys) == 5 and set(bench.launches.keys.values()) == {1}


def test_a_poller_that_died_between_claim_and_run_is_followed(bench: Place) -> None:
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    dead, alive = bench.poller(), bench.poller()
    bench.launches.hold = threading.Event()
    dead.round()  # it claims, and then hangs for good
    assert rounds(alive).launched == {}
    bench.clock.now += CLAIM_S - 1
    assert rounds(alive).launched == {}
    bench.clock.now += 2
    alive.round()
    bench.launches.hold.set()
    assert list(alive.finish().launched) == ["cup"]
    dead.finish()
    assert len(bench.launches.keys) == 1, "both asked for the run of the same key: the server knows it as one"


def test_a_poller_that_lives_keeps_its_claim(bench: Place) -> None:
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    slow, other = bench.poller(), bench.poller()
    bench.launches.hold = threading.Event()
    slow.round()
    for _ in range(5):
        bench.clock.now += CLAIM_S * 0.8
        slow.round()
        rounds(other)
    bench.launches.hold.set()
    slow.finish()
    assert list(bench.launches.keys.values()) == [1]


def test_a_launch_that_fails_is_tried_again(bench: Place) -> None:
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    bench.launches.fail = [DigitizeError(ReasonCode.WORKER_LOST, "no server"), RuntimeError("worse")]
    poller = bench.poller()
    assert "worse" in rounds(poller).errors[0]
    assert "no server" in rounds(poller).errors[0]
    assert list(rounds(poller).launched) == ["cup"]


def test_clocks_that_jump(bench: Place) -> None:
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    poller = bench.poller()
    bench.launches.hold = threading.Event()
    bench.clock.now += 10 * 365 * 86400.0
    poller.round()  # its claim is good for ten years and two minutes
    bench.clock.now -= 10 * 365 * 86400.0
    other = bench.poller()
    other.round()
    bench.launches.hold.set()
    assert list(other.finish().launched) == ["cup"]
    poller.finish()
    assert len(bench.launches.keys) == 1


def test_what_is_published_already_is_not_run_again(bench: Place) -> None:
    """The first look at a place with an archive of captures starts the new ones alone."""
    target = FolderStore(bench.spec.parent / "published")
    for asset in ("old", "new"):
        bench.photos(asset, "a.jpg")
        bench.complete(asset)
    target.put_bytes("assets/old/latest.json", b"{}")
    poller = bench.poller()
    assert list(rounds(poller).launched) == ["new"]
    bench.photos("old", "b.jpg")
    bench.inbox.hint(["old"])
    assert list(rounds(poller).launched) == ["old"]


def test_letters_are_kept_and_read_again(bench: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    poller, done = bench.poller(), Round()
    for body in ("{", event("x/y"), "\0\ud800" + "long" * 100_000, b"\xff"):
        poller.take("test", body, done)
    assert (done.messages, done.malformed, done.foreign) == (4, 3, 1)
    letters = bench.inbox.letters()
    assert [letter.source for letter in letters] == ["test"] * 3 and 64 << 10 <= len(letters[1].body) < 66 << 10
    assert poller.replay() == (0, 3)
    monkeypatch.setattr("flows.uploads.poller.parse_events", lambda body: [])  # a defect that was mended
    assert poller.replay() == (3, 0) and bench.inbox.letters() == []
    assert len(bench.inbox.letters(unread=False)) == 3


# --- the command


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes of their own, with Prefect and stub stages."""
    from PIL import Image

    from tests.flows.test_cli_run import finish, start

    monkeypatch.setenv("DIGITIZE_DATABASE_URL", f"sqlite:///{tmp_path / 'catalogue.db'}")
    folder = tmp_path / "shelf"
    (folder / "uploads" / "cup").mkdir(parents=True)
    spec = folder / "batch.yaml"
    spec.write_text("name: shelf\ncaptures: [{under: uploads, scale: {kind: none}}]\n")
    Image.new("RGB", (40, 30)).save(folder / "uploads" / "cup" / "a.jpg")
    document, _ = finish(start(folder, "uploads", spec, "--once", "--json"), code=0)
    assert document["waiting"] == ["cup"] and document["launched"] == {}
    (folder / "uploads" / "cup" / "capture.json").write_text("{}")
    document, told = finish(start(folder, "uploads", spec, "--once", "--json"), code=0)
    assert list(document["launched"]) == ["cup"] and "cup: run " in told
    document, _ = finish(start(folder, "uploads", spec, "--once", "--json"), code=0)
    assert document["launched"] == {}
    document, _ = finish(start(folder, "nightly", spec, "--dry-run", "--json"), code=0)
    assert [(each["asset"], each["need"]) for each in document["changes"]] == [("cup", "keep")]
