"""`digitize up` and `down` for real: the server answers, an upload is digitized, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flows.machine.services import MARK, environment, running, services, state, stop
from tests.flows.helpers import wait_until

ROOT = Path(__file__).resolve().parents[2]


def digitize(*arguments: object, **variables: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments), "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def ask(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


def write_spec(folder: Path) -> Path:
    (folder / "uploads").mkdir(parents=True)
    path = folder / "batch.yaml"
    path.write_text("name: shelf\ncaptures: [{under: uploads, scale: {kind: none}}]\n")
    return path


def test_secrets_are_in_files_and_never_in_words(tmp_path: Path) -> None:
    variables = environment(tmp_path, 4200, "ray", "/tmp/dgz-x")
    token = tmp_path / "ray-token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert environment(tmp_path, 4200, "ray", "/tmp/dgz-x") == variables, "the token stays"
    secret = token.read_text()
    assert secret not in str(variables)
    commands = [part for service in services("batch.yaml", 4200, "ray", "", "UTC") for part in service.command]
    assert secret not in commands


def test_down_ends_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    """Found by the mark in their environment, whoever their parent is by now."""
    folder = tmp_path / "state"
    folder.mkdir()
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True)"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, MARK: str(folder)}, check=True)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, MARK: "/other"})
    try:
        assert len(running(folder)) == 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flows.machine.services._STOP_S", 1.0)
            assert len(stop(folder)) == 1
        assert running(folder) == [] and other.poll() is None
        assert stop(folder) == []
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["--no-ray", "--ray"])
def test_up_and_down(tmp_path: Path, runner: str) -> None:
    folder = tmp_path / "state"
    spec = write_spec(tmp_path / "shelf")
    capture = spec.parent / "uploads" / "cup"
    capture.mkdir()
    (capture / "a.jpg").write_bytes(b"no picture")
    (capture / "capture.json").write_text("{}")
    settings = {"DIGITIZE_DATABASE_URL": f"sqlite:///{tmp_path / 'catalogue.db'}", "DIGITIZE_UPLOADS_POLL_S": "1"}
    document = digitize("up", spec, "--state", folder, "--port", 0, runner, **settings)
    try:
        assert "uploads" in document["services"] and ("ray" in document["services"]) == (runner == "--ray")
        with urllib.request.urlopen(f"{document['ui_url']}/", timeout=20) as page:
            assert b"Prefect" in page.read()
        deployments = {each["name"] for each in ask(f"{document['api_url']}/deployments/filter", {})}
        assert {name.partition("-")[0] for name in deployments} == {"nightly", "capture", "housekeeping", "alarm"}
        automations = ask(f"{document['api_url']}/automations/filter", {})
        assert [len(each["actions"]) for each in automations] == [1, 1]

        def ended() -> bool:
            runs = ask(f"{document['api_url']}/flow_runs/filter", {})
            return any(run["name"] == "upload cup" and run["state_type"] in ("FAILED", "COMPLETED") for run in runs)

        wait_until(ended, 240)
        status = json.loads((spec.parent / "store/status/shelf/cup.json").read_text())
        assert status["phase"] in ("quarantined", "rejected")
        before = state(folder)
        assert before is not None
        server = next(pid for pid in running(folder) if b"server" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: answers_again(document["api_url"]), 120)
        if runner == "--ray":
            refused_without_token(before.ray_folder)
    finally:
        digitize("down", "--state", folder)
    assert running(folder) == []
    assert not before.ray_folder or not Path(before.ray_folder).exists()


def answers_again(api: str) -> bool:
    time.sleep(0.5)
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5):
            return True
    except OSError:
        return False


def refused_without_token(ray_folder: str) -> None:
    """A client that shows no token is not let in."""
    variables = {**os.environ, "RAY_TMPDIR": ray_folder}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):
        variables.pop(name, None)
    code = "import ray; ray.init(address='auto', log_to_driver=False); print(ray.nodes())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
