"""One machine as a whole: Prefect server, Ray and the upload poller as child processes of one supervisor.

`digitize up` starts the supervisor, `digitize down` ends it. Every process of it carries the name of its folder in its
environment, so `down` finds what is left even when the supervisor itself was killed, and ends it by its number.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.runner.stage_process import child_environment
from models.errors import DigitizeError, ReasonCode

MARK = "DIGITIZE_SERVICES_FOLDER"
"""The variable that every process of a set of services carries."""
_START_S = 300.0
_STOP_S = 20.0
"""For processes to end by themselves; then they are killed."""
_POLL_S = 0.2
_STATE = "services.json"


@dataclass(frozen=True)
class Service:
    """One child process."""

    name: str
    command: tuple[str, ...]
    waits_for: str = ""
    """An address that must answer before this one starts."""


@dataclass(frozen=True)
class Services:
    """What runs, and where."""

    folder: str
    supervisor: int
    api_url: str
    ui_url: str
    ray_folder: str
    spec: str
    services: tuple[str, ...]


def default_folder() -> Path:
    """Where services keep their state: `digitize/services` in the user's folder for data."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "digitize" / "services"


def start(
    spec: Path, folder: Path, *, ray: bool = True, cron: str = "", timezone: str = "UTC", port: int = 0
) -> Services:
    """Start everything and wait until the Prefect server answers and its deployments are made.

    Raises DigitizeError(publish_conflict) when services of this folder run already, (worker_lost) when they do not
    come up; then nothing is left running.
    """
    folder = folder.absolute()
    if running(folder):
        raise DigitizeError(
            ReasonCode.PUBLISH_CONFLICT, "services run here already", "`digitize down` ends them.", path=str(folder)
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_STATE, "ready"):
        (folder / name).unlink(missing_ok=True)
    port = port or _free_port()
    with (folder / "supervisor.log").open("wb") as log:
        arguments = [str(folder), str(spec.absolute()), str(port), "ray" if ray else "inline", cron, timezone]
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.machine.supervisor", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(1) | {MARK: str(folder)},
        )
    end = time.monotonic() + _START_S
    try:
        while not (folder / "ready").exists():
            if supervisor.poll() is not None or time.monotonic() > end:
                raise DigitizeError(
                    ReasonCode.WORKER_LOST,
                    f"expected the services to come up within {_START_S:g} s; they did not",
                    f"See the logs in {folder}.",
                )
            time.sleep(_POLL_S)
    except BaseException:
        stop(folder)
        raise
    found = state(folder)
    assert found is not None
    return found


def state(folder: Path) -> Services | None:
    """What was started in a folder last, whether or not it still runs."""
    try:
        values = json.loads((folder.absolute() / _STATE).read_text())
    except (OSError, ValueError):
        return None
    return Services(**{**values, "services": tuple(values["services"])})


def write_state(services: Services) -> None:
    """Note what runs."""
    path = Path(services.folder) / _STATE
    path.with_suffix(".tmp").write_text(json.dumps(asdict(services)))
    path.with_suffix(".tmp").replace(path)


def stop(folder: Path) -> list[int]:
    """End everything that runs for a folder and remove Ray's temporary files. Returns the processes that were ended.

    First the supervisor, which ends its children in order; whatever is left then is ended by itself.
    """
    folder = folder.absolute()
    found, known = running(folder), state(folder)
    first = [known.supervisor] if known is not None and known.supervisor in found else found
    for group, number in ((first, signal.SIGTERM), (None, signal.SIGTERM), (None, signal.SIGKILL)):
        left = running(folder) if group is None else group
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + _STOP_S
        while running(folder) and time.monotonic() < end:
            time.sleep(_POLL_S)
    if known is not None and Path(known.ray_folder).name.startswith("dgz-"):
        shutil.rmtree(known.ray_folder, ignore_errors=True)
    (folder / _STATE).unlink(missing_ok=True)
    (folder / "ready").unlink(missing_ok=True)
    return found


def running(folder: Path) -> list[int]:
    """The processes of a folder's services that run at this moment, this process not among them."""
    wanted = f"{MARK}={folder.absolute()}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            ended = (process / "stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
        except (OSError, IndexError):
            continue
        if wanted in variables and not ended and int(process.name) != os.getpid():
            found.append(int(process.name))
    return sorted(found)


def environment(folder: Path, port: int, runner: str, ray_folder: str) -> dict[str, str]:
    """What every service gets. Secrets come from here or from files; none is on a command line."""
    found = child_environment(1) | {
        MARK: str(folder),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_UI_URL": f"http://127.0.0.1:{port}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "DIGITIZE_RUNNER": runner,
    }
    if runner == "ray":
        token = folder / "ray-token"
        if not token.exists():
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(32))
        found |= {"RAY_TMPDIR": ray_folder, "DIGITIZE_RAY_ADDRESS": "auto", "RAY_AUTH_MODE": "token"}
        found |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        found.pop("RAY_ADDRESS", None)
    return found


def services(spec: str, port: int, runner: str, cron: str, timezone: str) -> list[Service]:
    """The children, in the order in which they start."""
    python = (sys.executable, "-P", "-m")
    api = f"http://127.0.0.1:{port}/api"
    server = (*python, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    found = [Service("prefect-server", server)]
    if runner == "ray":
        head = (
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--include-dashboard=false",
            f"--port={_free_port()}",
        )
        limits = ("--ray-client-server-port", str(_free_port()), "--object-store-memory", str(100 << 20))
        found.append(Service("ray", (*python, *head, *limits)))
    found.append(Service("deployments", (*python, "flows.deployments", spec, cron, timezone), f"{api}/health"))
    return found


def poller(spec: str, deployment: str) -> Service:
    """The one that watches the specification's places."""
    command = (sys.executable, "-P", "-m", "flows.cli", "uploads", spec, "--deployment", deployment)
    return Service("uploads", command)


def make_ray_folder() -> str:
    """A short path: the sockets below it may have 107 characters."""
    return tempfile.mkdtemp(prefix="dgz-")


def answers(url: str) -> bool:
    """Whether somebody answers at an address."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
