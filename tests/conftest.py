"""Fixtures for every test. PIL comes first: pycolmap loaded before it corrupts the heap when a PNG is saved."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image  # noqa: F401

from infra.storage import FolderStore, S3Store
from models.store import Store


@pytest.fixture(autouse=True, scope="session")
def session_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that live longer than a test never touch the catalogue of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITIZE_DATABASE_URL", f"sqlite:///{tmp_path_factory.mktemp('catalogue') / 'catalogue.db'}")
        yield


@pytest.fixture(autouse=True)
def own_catalogue(
    session_catalogue: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test begins with a catalogue that knows nothing: what others took changes no forecast."""
    folder = tmp_path_factory.getbasetemp() / "catalogues"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("DIGITIZE_DATABASE_URL", f"sqlite:///{folder / f'{uuid.uuid4().hex}.db'}")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3 server over HTTP on this machine."""
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """`s3://bucket` on that server, empty, with the environment set so that `open_store` reaches it."""
    import boto3

    monkeypatch.setenv("DIGITIZE_S3_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("DIGITIZE_S3_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("DIGITIZE_S3_SECRET_ACCESS_KEY", "test-secret")
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test-secret",
    )
    name = f"test-{abs(hash(request.node.nodeid)):x}"
    client.create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of store in turn: one suite for all."""
    if request.param == "folder":
        return FolderStore(tmp_path / "a store")
    return S3Store(request.getfixturevalue("s3_bucket") + "/some/prefix")
