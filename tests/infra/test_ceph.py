"""Publishing, housekeeping and triggers on a real S3 server, Ceph's RADOS gateway.

Opt in: DIGITIZE_TEST_S3=http://127.0.0.1:7480,ACCESS_KEY,SECRET_KEY names a gateway on this machine, which pushes its
events to this process.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from flows.housekeeping.published import rollback, verify_target, withdraw
from flows.uploads.http import receiving
from infra.catalogue import Catalogue
from infra.database import Database
from infra.storage import S3Store, open_store
from tests.flows.helpers import wait_until
from tests.flows.test_maintenance import put_version
from tests.flows.uploads_place import Place, rounds

SERVER = os.environ.get("DIGITIZE_TEST_S3", "")

pytestmark = pytest.mark.skipif(not SERVER, reason="opt in: DIGITIZE_TEST_S3=http://127.0.0.1:7480,KEY,SECRET")


def client(service: str, **config: Any) -> Any:
    endpoint, key, secret = SERVER.split(",")
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(**config),
    )


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    endpoint, key, secret = SERVER.split(",")
    monkeypatch.setenv("DIGITIZE_S3_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("DIGITIZE_S3_ACCESS_KEY_ID", key)
    monkeypatch.setenv("DIGITIZE_S3_SECRET_ACCESS_KEY", secret)
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    yield name
    store = open_store(f"s3://{name}")
    for stat in list(store.list("")):
        store.delete(stat.key)
    s3.delete_bucket(Bucket=name)


def test_conditional_writes_and_times(bucket: str) -> None:
    store = S3Store(f"s3://{bucket}/store")
    assert store.put_bytes("lease", b"one", if_absent=True) and not store.put_bytes("lease", b"two", if_absent=True)
    stat = store.stat("lease")
    assert stat is not None
    assert store.put_bytes("lease", b"three", if_match=stat.etag)
    assert not store.put_bytes("lease", b"four", if_match=stat.etag)
    (listed,) = store.list("")
    assert listed.modified is not None and store.get_bytes("lease") == b"three"


def test_what_is_published(bucket: str, tmp_path: Path) -> None:
    target = S3Store(f"s3://{bucket}/published")
    for version in (1, 2):
        put_version(target, "cup", version)
    catalogue = Catalogue(Database(f"sqlite:///{tmp_path / 'catalogue.db'}"))
    assert (catalogue.sync(target), catalogue.sync(target)) == (1, 0)
    assert verify_target(target).damages == ()
    assert rollback(target, "cup").version == 1
    catalogue.sync(target)
    assert catalogue.published(target.uri)["cup"].version == 1
    target.put_bytes("assets/cup/v1/asset.glb", b"bit rot")
    assert [damage.path for damage in verify_target(target).damages] == ["assets/cup/v1/asset.glb"]
    assert withdraw(target, "cup", "rights", purge=True) > 4
    assert [stat.key for stat in target.list("assets/")] == ["assets/cup/withdrawn.json"]


def test_the_gateway_pushes_and_each_capture_runs_once(bucket: str, tmp_path: Path) -> None:
    bench = Place(tmp_path, f"s3://{bucket}/uploads")
    poller = bench.poller(sweep_s=1e9)
    rounds(poller)
    with receiving("127.0.0.1", 0, "secret", poller.take_pushed) as port:
        topics = client("sns", signature_version="v4")
        attributes = {"push-endpoint": f"http://127.0.0.1:{port}/events/secret"}
        arn = topics.create_topic(Name=bucket, Attributes=attributes)["TopicArn"]
        try:
            client("s3").put_bucket_notification_configuration(
                Bucket=bucket,
                NotificationConfiguration={
                    "TopicConfigurations": [{"Id": "uploads", "TopicArn": arn, "Events": ["s3:ObjectCreated:*"]}]
                },
            )
            bench.photos("Vase Nº 3", "a b.jpg", "c+d.jpg")
            wait_until(lambda: bool(bench.inbox.hinted()), 30)
            assert len(rounds(poller).waiting) == 1
            heard = sum(bench.inbox.hinted().values())
            bench.complete("Vase Nº 3", "a b.jpg", "c+d.jpg")
            wait_until(lambda: sum(bench.inbox.hinted().values()) > heard, 30)
            assert len(rounds(poller).launched) == 1
            bench.complete("Vase Nº 3", "a b.jpg", "c+d.jpg")  # the same manifest again: an event, and no run
            wait_until(lambda: bool(bench.inbox.hinted()), 30)
            assert rounds(poller).launched == {} and bench.inbox.letters() == []
        finally:
            topics.delete_topic(TopicArn=arn)


@pytest.mark.slow
def test_the_whole_line(bucket: str, tmp_path: Path) -> None:
    """Photos uploaded to the gateway are digitized and published there, with the work store there too."""
    import yaml

    from tests.e2e.line import digitize, write_capture

    batch = write_capture(tmp_path / "sample")
    values = yaml.safe_load(batch.read_text())
    places = {name: f"s3://{bucket}/{name}" for name in ("uploads", "store", "published")}
    values |= {"store": places["store"], "publish": [{"to": places["published"]}]}
    asset = values.pop("assets")[0]
    values["captures"] = [{"under": places["uploads"], "scale": asset["scale"]}]
    spec = tmp_path / "batch.yaml"
    spec.write_text(yaml.safe_dump(values, sort_keys=False))
    uploads = open_store(places["uploads"])
    for photo in sorted((tmp_path / "sample" / "photos").iterdir()):
        uploads.put_file(f"pot/{photo.name}", photo)
    uploads.put_bytes("pot/capture.json", b"{}")
    shutil.rmtree(tmp_path / "sample")
    variables = {"DIGITIZE_DATABASE_URL": f"sqlite:///{tmp_path / 'catalogue.db'}"}
    assert list(digitize("uploads", str(spec), "--once", **variables)["launched"]) == ["pot"]
    target = open_store(places["published"])
    latest = json.loads(target.get_bytes("assets/pot/latest.json") or b"{}")
    assert latest["version"] == 1 and verify_target(target).damages == ()
    again = digitize("nightly", str(spec), "--dry-run", **variables)
    assert [each["need"] for each in again["changes"]] == ["keep"]
