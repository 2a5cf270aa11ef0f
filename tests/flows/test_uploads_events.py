"""Uploads told by events: a server with S3 and SQS, and HTTP push."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from flows.uploads.http import receiving
from infra.queue import Queue, move_all
from infra.settings import UploadSettings
from models.errors import DigitizeError, ReasonCode
from tests.flows.uploads_place import Place, event, rounds


@pytest.fixture
def bench(tmp_path: Path) -> Place:
    return Place(tmp_path, str(tmp_path / "uploads"))


# --- with S3 and SQS, as a server that speaks HTTP


@pytest.fixture
def cloud(
    tmp_path: Path, s3_endpoint: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Place, Queue, Queue]]:
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
    bench = Place(tmp_path, f"{s3_bucket}/up loads")
    settings = UploadSettings(sqs_endpoint_url=s3_endpoint)
    yield bench, Queue(main, settings), Queue(dead, settings)


def test_from_the_bucket_to_the_run(cloud: tuple[Place, Queue, Queue]) -> None:
    bench, queue, _ = cloud
    poller = bench.poller(queue, sweep_s=1e9)
    assert rounds(poller).errors == []  # the server's test event, and the sweep of an empty place
    bench.photos("Vase Nº 3", "a b.jpg", "sub/c+d.jpg")
    assert len(rounds(poller).waiting) == 1
    bench.complete("Vase Nº 3", "a b.jpg", "sub/c+d.jpg")
    assert len(rounds(poller).launched) == 1
    assert queue.receive() == []
    assert bench.inbox.letters() == [] and list(bench.launches.photos.values()) == [2]


def test_malformed_messages_do_not_stop_the_others(cloud: tuple[Place, Queue, Queue]) -> None:
    bench, queue, _ = cloud
    for body in ("not json", "{}", event("up loads/cup/a.jpg", "another-bucket")):
        queue.send(body)
    bench.photos("cup", "a.jpg")
    bench.complete("cup")
    assert list(rounds(bench.poller(queue, sweep_s=1e9)).launched) == ["cup"]
    assert [letter.body for letter in bench.inbox.letters()] == ["not json", "{}"]
    assert queue.receive() == []


def test_messages_that_could_not_be_noted_come_back_by_the_dead_letter_queue(
    cloud: tuple[Place, Queue, Queue], monkeypatch: pytest.MonkeyPatch
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


def test_a_queue_that_is_away_leaves_the_sweep(bench: Place, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_pushed_events(cloud: tuple[Place, Queue, Queue]) -> None:
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


def test_an_event_that_cannot_be_noted_is_not_acknowledged(bench: Place) -> None:
    def broken(body: bytes) -> None:
        raise DigitizeError(ReasonCode.STORE_UNREACHABLE, "the database is away", retryable=True)

    with receiving("127.0.0.1", 0, "secret", broken) as port:
        assert post(port, b"{}") == 503
        with pytest.raises(DigitizeError, match="free port"), receiving("127.0.0.1", port, "secret", broken):
            """Taken."""
    with pytest.raises(DigitizeError, match="a token"), receiving("127.0.0.1", 0, "", broken):
        """Nobody may push without one."""
