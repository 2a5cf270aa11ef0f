"""Uploads: one run a capture and content, whatever the events do. On folders, and on a server with S3 and SQS."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from flows.captures import Capture
from flows.push import receiving
from flows.uploads import Poller, Round
from infra.database import Database
from infra.inbox import CLAIM_S, Inbox
from infra.queue import Queue, move_all
from infra.settings import UploadSettings
from infra.storage import FolderStore, open_store
from models.errors import DigitizeError, ReasonCode


class Launches:
    """Counts launches; the key decides which run it is, as with a server's idempotency key."""

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()
        self.photos: dict[str, int] = {}
        self.fail: list[Exception] = []
        self.hold: threading.Event | None = None

    def launch(self, capture: Capture, key: str) -> str:
        if self.hold is not None:
            self.hold.wait(20)
        if self.fail:
            raise self.fail.pop()
        self.keys[key] += 1
        self.photos[capture.asset] = capture.photos
        return f"run of {key}"


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Bench:
    """A place, its inbox, and as many pollers as a test wants."""

    def __init__(self, folder: Path, under: str) -> None:
        self.spec = folder / "batch.yaml"
        place = f"captures: [{{under: '{under}', scale: {{kind: none}}, quiet_minutes: 10}}]"
        self.spec.write_text(f"name: shelf\npublish: [{{to: published}}]\n{place}\n")
        self.place = open_store(under)
        self.database = Database(f"sqlite:///{folder / 'catalogue.db'}")
        self.clock = Clock()
        self.inbox = Inbox(self.database, "shelf", self.clock)
        self.launches = Launches()
        self._names = map(str, itertools.count())

    def poller(self, queue: Queue | None = None, sweep_s: float = 300.0) -> Poller:
        settings = UploadSettings(sweep_s=sweep_s, poll_s=0.01)
        args = (self.spec, self.inbox, self.launches, settings, next(self._names), queue, self.clock)
        return Poller(*args)

    def photos(self, asset: str, *names: str) -> None:
        for name in names:
            self.place.put_bytes(f"{asset}/{name}", name.encode())

    def complete(self, asset: str, *names: str) -> None:
        files = [{"path": name} for name in names]
        self.place.put_bytes(f"{asset}/capture.json", json.dumps({"files": files}).encode())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, str(tmp_path / "uploads"))


def rounds(poller: Poller) -> Round:
    first = poller.round()
    last = poller.finish()
    last.errors = first.errors + last.errors
    last.waiting = first.waiting
    return last


def event(key: str, bucket: str = "uploads") -> str:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]})


def test_the_manifest_starts_exactly_one_run(bench: Bench) -> None:
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


def test_silence_starts_it_too(bench: Bench) -> None:
    bench.photos("cup", "a.jpg")
    bench.clock.now += 300
    poller = bench.poller()
    assert rounds(poller).waiting == ["cup"]
    bench.clock.now += 301
    assert list(rounds(poller).launched) == ["cup"]


def test_events_in_any_order_any_number_and_some_lost(bench: Bench, tmp_path: Path) -> None:
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


def test_a_new_photo_after_the_run_is_another_run(bench: Bench) -> None:
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    poller = bench.poller()
    rounds(poller)
    bench.photos("cup", "b.jpg")
    bench.inbox.hint(["cup"])
    rounds(poller)
    assert list(bench.launches.keys.values()) == [1, 1] and bench.launches.photos == {"cup": 2}


def test_many_pollers_one_run(bench: Bench) -> None:
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


def test_a_poller_that_died_between_claim_and_run_is_followed(bench: Bench) -> None:
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


def test_a_poller_that_lives_keeps_its_claim(bench: Bench) -> None:
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


def test_a_launch_that_fails_is_tried_again(bench: Bench) -> None:
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    bench.launches.fail = [DigitizeError(ReasonCode.WORKER_LOST, "no server"), RuntimeError("worse")]
    poller = bench.poller()
    assert "worse" in rounds(poller).errors[0]
    assert "no server" in rounds(poller).errors[0]
    assert list(rounds(poller).launched) == ["cup"]


def test_clocks_that_jump(bench: Bench) -> None:
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


def test_what_is_published_already_is_not_run_again(bench: Bench) -> None:
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


def test_letters_are_kept_and_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    poller, done = bench.poller(), Round()
    for body in ("{", event("x/y"), "\0\ud800" + "long" * 100_000, b"\xff"):
        poller.take("test", body, done)
    assert (done.messages, done.malformed, done.foreign) == (4, 3, 1)
    letters = bench.inbox.letters()
    assert [letter.source for letter in letters] == ["test"] * 3 and 64 << 10 <= len(letters[1].body) < 66 << 10
    assert poller.replay() == (0, 3)
    monkeypatch.setattr("flows.uploads.parse_events", lambda body: [])  # a defect that was mended
    assert poller.replay() == (3, 0) and bench.inbox.letters() == []
    assert len(bench.inbox.letters(unread=False)) == 3


# --- with S3 and SQS, as a server that speaks HTTP


@pytest.fixture
def cloud(
    tmp_path: Path, s3_endpoint: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Bench, Queue, Queue]]:
    """A bucket that notifies a queue with a dead-letter queue."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test-secret", "region_name": "us-east-1"}
    bucket = s3_bucket.removeprefix("s3://")
    sqs = boto3.client("sqs", endpoint_url=s3_endpoint, **keys)
    dead = sqs.create_queue(QueueName=f"{bucket}-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
    attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": "0"}
    main = sqs.create_queue(QueueName=f"{bucket}-main", Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=main, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("s3", endpoint_url=s3_endpoint, **keys).put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    bench = Bench(tmp_path, f"{s3_bucket}/up loads")
    settings = UploadSettings(sqs_endpoint_url=s3_endpoint)
    yield bench, Queue(main, settings), Queue(dead, settings)


def test_from_the_bucket_to_the_run(cloud: tuple[Bench, Queue, Queue]) -> None:
    bench, queue, _ = cloud
    poller = bench.poller(queue, sweep_s=1e9)
    assert rounds(poller).errors == []  # the server's test event, and the sweep of an empty place
    bench.photos("Vase Nº 3", "a b.jpg", "sub/c+d.jpg")
    assert len(rounds(poller).waiting) == 1
    bench.complete("Vase Nº 3", "a b.jpg", "sub/c+d.jpg")
    assert len(rounds(poller).launched) == 1
    assert queue.receive() == []
    assert bench.inbox.letters() == [] and list(bench.launches.photos.values()) == [2]


def test_malformed_messages_do_not_stop_the_others(cloud: tuple[Bench, Queue, Queue]) -> None:
    bench, queue, _ = cloud
    for body in ("not json", "{}", event("up loads/cup/a.jpg", "another-bucket")):
        queue.send(body)
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    assert list(rounds(bench.poller(queue, sweep_s=1e9)).launched) == ["cup"]
    assert [letter.body for letter in bench.inbox.letters()] == ["not json", "{}"]
    assert queue.receive() == []


def test_messages_that_could_not_be_noted_come_back_by_the_dead_letter_queue(
    cloud: tuple[Bench, Queue, Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, queue, dead = cloud
    poller = bench.poller(queue, sweep_s=1e9)
    rounds(poller)
    bench.photos("cup", "a.jpg")
    bench.complete("cup")

    def broken(captures: object) -> None:
        raise DigitizeError(ReasonCode.STORE_UNREACHABLE, "the database is away", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(bench.inbox, "hint", broken)
        for _ in range(2):
            assert "the database is away" in rounds(poller).errors[0]
    assert rounds(poller).launched == {}
    while queue.receive():
        """Two receipts each, then SQS moves them."""
    assert move_all(dead, queue) == 2
    assert list(rounds(poller).launched) == ["cup"]


def test_a_queue_that_is_away_leaves_the_sweep(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.settings import S3Settings

    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    keys = S3Settings(access_key_id="x", secret_access_key="y")  # type: ignore[arg-type]
    queue = Queue("http://127.0.0.1:9/q", UploadSettings(sqs_endpoint_url="http://127.0.0.1:9"), keys)
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    done = rounds(bench.poller(queue))
    assert "the queue did not answer" in done.errors[0] and list(done.launched) == ["cup"]


# --- pushed over HTTP


def post(port: int, body: bytes, path: str = "/events/secret", **headers: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_pushed_events(cloud: tuple[Bench, Queue, Queue]) -> None:
    bench, _, _ = cloud
    poller = bench.poller(sweep_s=1e9)
    rounds(poller)
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    bucket = bench.place.uri.removeprefix("s3://").partition("/")[0]
    good = event("up+loads/cup/capture.json", bucket).encode()
    with receiving("127.0.0.1", 0, "secret", poller.take_pushed) as port:
        assert post(port, good, "/events/wrong") == post(port, good, "/") == 401
        assert post(port, b"x", **{"Content-Length": str(2 << 20)}) == 413
        assert rounds(poller).launched == {}
        assert post(port, good) == post(port, good, "/", Authorization="Bearer secret") == 200
        assert post(port, b"{") == 200, "kept as a letter; refusing it would make the server send it for ever"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as health:
            assert health.status == 200
        assert list(rounds(poller).launched) == ["cup"]
    assert len(bench.inbox.letters()) == 1


def test_an_event_that_cannot_be_noted_is_not_acknowledged(bench: Bench) -> None:
    def broken(body: bytes) -> None:
        raise DigitizeError(ReasonCode.STORE_UNREACHABLE, "the database is away", retryable=True)

    with receiving("127.0.0.1", 0, "secret", broken) as port:
        assert post(port, b"{}") == 503
        with pytest.raises(DigitizeError, match="free port"), receiving("127.0.0.1", port, "secret", broken):
            """Taken."""
    with pytest.raises(DigitizeError, match="a token"), receiving("127.0.0.1", 0, "", broken):
        """Nobody may push without one."""


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
