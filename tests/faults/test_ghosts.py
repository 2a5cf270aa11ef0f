"""A run whose process is gone does not stay `running` on the server, and whoever is on duty hears of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.machine.services import running
from flows.prefect_server.automations import ZOMBIE_S
from flows.status.leases import LEASE_FILE
from tests.flows.helpers import environment, wait_until
from tests.flows.test_flow_batch import DRIVER
from tests.flows.test_services import ask, digitize, write_spec
from tests.support import STAGES

pytestmark = pytest.mark.slow


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """An address to notify, and what was said there."""
    messages: list[str] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            messages.append(f"{body['title']}\n{body['message']}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/", messages
    server.shutdown()
    thread.join()
    server.server_close()


def drive(folder: Path, api: str, pause_s: float) -> subprocess.Popen[str]:
    """A run of one asset, whose stages take 4 times `pause_s` each."""
    variables = environment(PREFECT_HOME=str(folder / "client"), PREFECT_API_URL=api)
    assets = {"one": {str(stage): {"do": "progress", "pause_s": pause_s} for stage in STAGES}}
    command = [sys.executable, str(DRIVER), str(folder / "store"), json.dumps(assets)]
    return subprocess.Popen(
        command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def batches(api: str) -> list[dict[str, Any]]:
    """The flow runs of digitize_batch, oldest first."""
    wanted = {"flows": {"name": {"any_": ["digitize_batch"]}}, "sort": "START_TIME_ASC"}
    return ask(f"{api}/flow_runs/filter", wanted)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("taken_over", [False, True])
def test_a_killed_run_is_marked_and_told(tmp_path: Path, heard: tuple[str, list[str]], taken_over: bool) -> None:
    """By the server's automation when nobody comes, at once when another run takes the work over."""
    address, messages = heard
    folder = tmp_path / "state"
    spec = write_spec(tmp_path / "shelf")
    settings = {"DIGITIZE_DATABASE_URL": f"sqlite:///{tmp_path / 'catalogue.db'}", "DIGITIZE_NOTIFY_URL": address}
    up = digitize("up", spec, "--state", folder, "--port", 0, "--no-ray", **settings)
    started: list[subprocess.Popen[str]] = []
    try:
        first = drive(tmp_path, up["api_url"], pause_s=5.0 if taken_over else 60.0)
        started.append(first)
        wait_until(lambda: any(run["state_type"] == "RUNNING" for run in batches(up["api_url"])), 200)
        wait_until(lambda: bool(list((tmp_path / "store").glob(f"work/**/{LEASE_FILE}"))), 60)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        if taken_over:
            second = drive(tmp_path, up["api_url"], pause_s=5.0)
            started.append(second)
            out, err = second.communicate(timeout=600)
            assert second.returncode == 0, err
            assert json.loads(out.splitlines()[-1])["counts"] == {"done": 1}
        wait_until(lambda: batches(up["api_url"])[0]["state_type"] == "CRASHED", 3.0 * ZOMBIE_S)
        lost, *others = batches(up["api_url"])
        why = "another run has taken its work over" if taken_over else "no heartbeat"
        assert why in lost["state"]["message"]
        assert [run["state_type"] for run in others] == ["COMPLETED"] * taken_over
        wait_until(lambda: bool(messages), 120)
        assert len(messages) == 1 and "Crashed" in messages[0] and lost["id"] in messages[0]
    finally:
        for process in started:
            process.kill()
        digitize("down", "--state", folder)
    assert running(folder) == []
