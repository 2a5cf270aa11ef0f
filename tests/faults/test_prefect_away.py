"""The Prefect server goes away in the middle of a run, and comes back or does not: the work goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.flows.helpers import environment, wait_until
from tests.flows.test_flow_batch import DRIVER
from tests.support import STAGES

pytestmark = pytest.mark.slow


class Server:
    """A Prefect server with its database in a file, as a person runs one."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.variables = environment(
            PREFECT_HOME=str(folder / "server"), PREFECT_SERVER_ANALYTICS_ENABLED="false", PREFECT_UI_ENABLED="0"
        )
        self.log = folder / "server.log"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=self.variables, stdout=log, stderr=log, start_new_session=True)
        wait_until(self.answers, 120)
        return process

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        with suppress(ProcessLookupError):  # stopped before
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def drive(folder: Path, server: Server, assets: dict[str, Any]) -> subprocess.Popen[str]:
    variables = environment(PREFECT_HOME=str(folder / "client"), PREFECT_API_URL=server.url)
    command = [sys.executable, str(DRIVER), str(folder / "store"), json.dumps(assets)]
    return subprocess.Popen(command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("comes_back", [True, False])
def test_the_work_goes_on(tmp_path: Path, comes_back: bool) -> None:
    """Two minutes without the server, in which stages start and end; or the server never returns."""
    server = Server(tmp_path)
    slow = {str(stage): {"do": "progress", "pause_s": 2.0} for stage in STAGES}
    process = drive(tmp_path, server, {"one": slow, "two": slow, "three": slow, "four": slow})
    try:
        wait_until(lambda: any((tmp_path / "store").glob("work/*/pose/*/DONE.json")), 200)
        server.stop()
        if comes_back:
            time.sleep(120)
            server.process = server.start()
        out, err = process.communicate(timeout=500)
    finally:
        process.kill()
        server.stop()
    assert process.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    assert found["counts"] == {"done": 4}
    assert len(list((tmp_path / "store").glob("work/*/*/*/DONE.json"))) == 4 * len(STAGES)
