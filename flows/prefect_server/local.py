"""Prefect without a server of one's own: a temporary one that lives as long as this process, quiet and offline.

Prefect brings such a server itself, but that one shares the terminal (Ctrl-C ends it before the run has said its last
word), prints there, and stays behind when the run is killed.

Prefect reads its settings from the environment when it is imported, so `prepare` runs before; nothing here imports
Prefect at its top.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from logging.handlers import RotatingFileHandler
from pathlib import Path

from flows.runner.stage_process import child_environment
from models.errors import DigitizeError, ReasonCode

START_LIMIT_S = 180.0
"""For the temporary server on a busy machine; it takes 4 to 12 seconds."""
_POLL_S = 0.1
_STARTS = 3
"""Two first runs at the same moment set up one database: the server of one of them fails, and starts again."""
_LOG_BYTES = 4 << 20
_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # by which a server's automation tells a run that is gone
}


def home() -> Path:
    """Where Prefect keeps its data: PREFECT_HOME, or `digitize/prefect` in the user's folder for data."""
    if given := os.environ.get("PREFECT_HOME"):
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "digitize" / "prefect"


def log_file() -> Path:
    """Where Prefect's own messages go."""
    return home() / "digitize.log"


class _Server:
    """The temporary server of this process: started once, and gone when this process is, however that ends."""

    def __init__(self, schedules: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._environment = child_environment(1) | {"PREFECT_UI_ENABLED": "0"}
        if not schedules:
            self._environment["PREFECT__SERVER_EPHEMERAL"] = "1"  # none of the services that make runs of schedules
        self._starts_left = _STARTS
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._starts_left -= 1
        with (home() / "server.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.prefect_server.local", str(self.port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
            )

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://127.0.0.1:{self.port}/api"

    def wait(self, cancel: threading.Event) -> bool:
        """Wait until it answers. False when `cancel` was set first. Raises DigitizeError when it does not start."""
        for _ in range(round(START_LIMIT_S / _POLL_S)):
            if cancel.is_set():
                return False
            if self._process.poll() is not None:
                if not self._starts_left:
                    break
                self._process = self._start()
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return True
            except (urllib.error.URLError, OSError):
                cancel.wait(_POLL_S)
        raise DigitizeError(
            ReasonCode.WORKER_LOST,
            f"expected Prefect's temporary server to start within {START_LIMIT_S:g} s; it did not",
            hint=f"See {home() / 'server.log'}, or set PREFECT_API_URL to a server of your own.",
            retryable=True,
        )


_server: _Server | None = None


def prepare(schedules: bool = False) -> None:
    """Set what Prefect reads on import, and begin to start a temporary server unless PREFECT_API_URL names one.

    Args:
        schedules: whether that server makes the runs of schedules, too.

    What the user has set stays. A process that has imported Prefect before keeps the settings that it has.
    """
    global _server  # noqa: PLW0603  one a process, because Prefect reads the address once a process
    if "prefect" in sys.modules or _server is not None:
        return
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"expected a folder for Prefect's data, found none that can be made: {error.strerror}"
        hint = "Set PREFECT_HOME (or HOME) to a folder that you can write."
        raise DigitizeError(ReasonCode.ENVIRONMENT, message, hint, path=str(folder)) from error
    os.environ["PREFECT_HOME"] = str(folder)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("PREFECT_API_URL"):
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
        _server = _Server(schedules)
        os.environ["PREFECT_API_URL"] = _server.url


def is_temporary() -> bool:
    """Whether the server is this process's own, which nobody looks at."""
    return _server is not None


def wait_ready(cancel: threading.Event) -> bool:
    """Wait for the temporary server, if there is one. False when `cancel` was set first."""
    return _server is None or _server.wait(cancel)


def quiet() -> None:
    """Send what Prefect logs to `digitize.log` in its folder instead of the terminal. Imports Prefect."""
    from prefect.logging.configuration import setup_logging

    setup_logging()
    file = RotatingFileHandler(log_file(), maxBytes=_LOG_BYTES, backupCount=1, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.extra"):
        logger = logging.getLogger(name)
        remote = [handler for handler in logger.handlers if type(handler).__name__ == "APILogHandler"]
        logger.handlers = [*remote, file]
        logger.propagate = False


def _serve(port: int) -> None:
    """The temporary server's process. The end of stdin is the end of the process that started it."""

    def end_with_stdin() -> None:
        while os.read(0, 512):
            pass
        os._exit(0)

    threading.Thread(target=end_with_stdin, daemon=True).start()
    os.environ.pop("PREFECT_API_URL", None)
    import uvicorn

    uvicorn.run("prefect.server.api.server:create_app", factory=True, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
