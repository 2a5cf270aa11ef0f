"""Prefect's server on a real Postgres with API authentication, every deployment of prefect.yaml made on it, and a batch
run against it. Opt in: DIGITIZE_TEST_POSTGRES=postgresql+pg8000://... of a user who may create databases."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.flows.cli_stubs import write_batch
from tests.flows.helpers import wait_until

ROOT = Path(__file__).resolve().parents[2]
URL = os.environ.get("DIGITIZE_TEST_POSTGRES", "")
AUTH = "admin:only-for-this-test"

pytestmark = pytest.mark.skipif(not URL, reason="opt in: DIGITIZE_TEST_POSTGRES=postgresql+pg8000://...")


@dataclass(frozen=True)
class Server:
    api: str
    variables: dict[str, str]
    log: Path

    def ask(self, path: str, auth: str = AUTH) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {b64encode(auth.encode()).decode()}"}
        request = urllib.request.Request(self.api + path, b"{}", headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("postgres")
    name = f"prefect_{uuid.uuid4().hex[:8]}"
    engine = sa.create_engine(URL, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database = sa.make_url(URL).set(drivername="postgresql+asyncpg", database=name)
    common = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
    }
    own = {
        "PREFECT_API_DATABASE_CONNECTION_URL": database.render_as_string(hide_password=False),
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_UI_ENABLED": "0",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**common, **own}, stdout=file, stderr=file, start_new_session=True)
    api = f"http://127.0.0.1:{port}/api"
    client = {**common, "PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": AUTH}
    found = Server(api, client, log)
    try:
        wait_until(lambda: _answers(found), 180)
        yield found
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        engine = sa.create_engine(URL, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def _answers(server: Server) -> bool:
    try:
        server.ask("/flow_runs/filter")
    except OSError:
        return False
    return True


def test_nobody_comes_in_without_the_word(server: Server) -> None:
    for auth in ("admin:wrong", ""):
        with pytest.raises(urllib.error.HTTPError) as caught:
            server.ask("/flow_runs/filter", auth)
        assert caught.value.code == 401
        caught.value.close()
    assert "only-for-this-test" not in server.log.read_text()


def test_every_deployment_is_made_and_its_runs_are_scheduled(server: Server) -> None:
    def prefect(*arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=server.variables, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, (done.stdout, done.stderr)

    prefect("work-pool", "create", "--type", "process", "digitize")
    prefect("deploy", "--all")
    names = {each["name"]: each for each in server.ask("/deployments/filter")}
    assert set(names) == {"nightly", "capture", "uploads", "housekeeping", "alarm"}
    assert names["nightly"]["schedules"][0]["schedule"]["timezone"] == "Europe/Rome"
    wait_until(lambda: any(run["state_type"] == "SCHEDULED" for run in server.ask("/flow_runs/filter")), 120)


def test_a_batch_runs_against_it(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    spec = write_batch(folder, "cup")
    command = [sys.executable, "-m", "tests.flows.cli_driver", str(folder), "nightly", str(spec), "--json"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**server.variables, "DIGITIZE_DATABASE_URL": URL},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    run = json.loads(done.stdout)["run"]
    runs = {each["id"]: each for each in server.ask("/flow_runs/filter")}
    assert runs[run]["state_type"] == "COMPLETED" and runs[run]["name"] == "shelf: cup"
    assert {"digitize", "batch:shelf"} <= set(runs[run]["tags"])
    artifacts = {each["key"]: each for each in server.ask("/artifacts/filter")}
    assert "# cup: done" in artifacts["asset-cup"]["data"]
    assert artifacts["progress-shelf-cup"]["data"] == 100.0
