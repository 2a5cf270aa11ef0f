"""A Ray cluster of one's own, with token authentication: by its address, as a client, and as a job."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flows.runner.ray_cluster import gpu_share
from flows.runner.ray_jobs import is_jobs_address, portable
from models.spec_yaml import load_spec
from tests.flows.cli_stubs import write_batch
from tests.flows.helpers import environment, wait_until

DRIVER = """
import json, sys, time
from pathlib import Path
from flows.runner.make import make_runner
from infra.settings import RunSettings
from models.errors import DigitizeError
from tests.flows.helpers import DOOR, make_request, read_pids, wait_gone

folder = Path(sys.argv[1])
runner = make_runner(RunSettings(runner="ray", scratch=folder / "scratch"), str(folder / "store"), DOOR)
seen = []
done = runner.run(make_request(do="progress", pause_s=1.5), lambda *progress: seen.append(progress), lambda: False)
pids = folder / "pids"
try:
    runner.run(make_request(do="deaf", pids=str(pids)), lambda *progress: None, pids.exists)
except DigitizeError as error:
    code = error.code
wait_gone(read_pids(pids))
runner.close()
print(json.dumps({"key": done.key, "progress": len(seen), "cancelled": code}))
"""


CLIENT_PORT = 10001
"""Ray 2.60 starts its client's servers on the ports after this one alone."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def test_gpu_shares() -> None:
    assert gpu_share(8.0, 24.0) == 0.34  # rounded up: three fit with 0.32 each only in theory
    assert gpu_share(8.0, 80.0) == 0.10
    assert gpu_share(0.0, 24.0) == 0.0
    assert gpu_share(48.0, 24.0) == 1.0
    assert gpu_share(1.0, 0.0) == 1.0  # a GPU of unknown size is not shared
    assert is_jobs_address("http://head:8265") and not is_jobs_address("ray://head:10001") and not is_jobs_address(None)


def test_a_specification_that_reads_from_anywhere(tmp_path: Path) -> None:
    import yaml

    spec_file = load_spec(write_batch(tmp_path, "cup"))
    moved = tmp_path / "elsewhere" / "batch.yaml"
    moved.parent.mkdir()
    moved.write_text(yaml.safe_dump(portable(spec_file)))
    there = load_spec(moved)
    assert there.resolve(there.spec.assets[0].photos) == spec_file.resolve(spec_file.spec.assets[0].photos)
    assert there.resolve(there.spec.publish[0].to) == str(tmp_path / "published")
    assert there.resolve(there.spec.store) == str(tmp_path / "store")


class Head:
    """A Ray head as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.ports = {"gcs": free_port(), "client": CLIENT_PORT, "jobs": free_port()}
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.variables = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), DIGITIZE_RUNNER="ray")
        self.variables["PATH"] = f"{Path(sys.executable).parent}:{self.variables['PATH']}"
        command = [
            *("ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}"),
            *(f"--port={self.ports['gcs']}", f"--ray-client-server-port={self.ports['client']}"),
            f"--dashboard-port={self.ports['jobs']}",
        ]
        with (folder / "head.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=self.variables, stdout=log, stderr=log, start_new_session=True)
        for name in ("client", "jobs"):
            wait_until(lambda name=name: self._listens(self.ports[name]), 90)  # type: ignore[misc]

    def _listens(self, port: int) -> bool:
        assert self.process.poll() is None
        try:
            socket.create_connection((socket.gethostbyname(socket.gethostname()), port), timeout=1).close()
        except OSError:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
        return True

    def stop(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Ray's sockets want a short path, and its client and jobs the extra `cluster`."""
    pytest.importorskip("grpc", reason="ray:// wants asset-digitizer[cluster]")
    pytest.importorskip("aiohttp_cors", reason="Ray jobs want asset-digitizer[cluster]")
    with socket.socket() as port:
        if port.connect_ex(("127.0.0.1", CLIENT_PORT)) == 0:
            pytest.skip(f"port {CLIENT_PORT} is taken")
    folder = Path(tempfile.mkdtemp(prefix="dr", dir="/tmp"))
    found = Head(folder)
    yield found
    found.stop()
    time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)


def drive(head: Head, folder: Path, address: str) -> dict[str, Any]:
    import json

    process = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder)],
        env={**head.variables, "DIGITIZE_RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ray://127.0.0.1:{client}", "{host}:{gcs}"])
def test_by_address_alone(head: Head, tmp_path: Path, kind: str) -> None:
    address = kind.format(**head.ports, host=socket.gethostbyname(socket.gethostname()))
    found = drive(head, tmp_path, address)
    assert found["progress"] > 0
    assert found["cancelled"] == "cancelled"


@pytest.mark.slow
def test_a_run_as_a_ray_job(head: Head, tmp_path: Path) -> None:
    """Two tiny photos: the line ends with a rejection, and so does the job's exit code."""
    spec = write_batch(tmp_path, "cup")
    process = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", str(spec)],
        env={**head.variables, "DIGITIZE_RAY_ADDRESS": f"http://127.0.0.1:{head.ports['jobs']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 3, process.stdout + process.stderr
    assert "too_few_images" in process.stdout
    assert "Ray job raysubmit_" in process.stdout
    assert list((tmp_path / "store" / "work" / "cup" / "ingest").glob("*/DONE.json"))
