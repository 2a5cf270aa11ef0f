"""Prefect without a server of one's own: a temporary one with its data below the user's folder, quiet, offline.

Prefect reads its settings from the environment when it is imported, so this runs before. Nothing here imports Prefect
at its top.
"""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",
}
_TEMPORARY_SERVER = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # its shutdown interrupts its own writers, which would tell so on the terminal after the batch's verdict
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
_LOG_BYTES = 4 << 20


def home() -> Path:
    """Where Prefect keeps its data: PREFECT_HOME, or `digitize/prefect` in the user's folder for data."""
    if given := os.environ.get("PREFECT_HOME"):
        return Path(given)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "digitize" / "prefect"


def log_file() -> Path:
    """Where Prefect's own messages go."""
    return home() / "digitize.log"


def prepare() -> None:
    """Set what Prefect reads on import; whatever the user has set stays. With PREFECT_API_URL that server is used."""
    settings = _SETTINGS | ({} if os.environ.get("PREFECT_API_URL") else _TEMPORARY_SERVER)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder)


def quiet() -> None:
    """Send what Prefect logs to `digitize.log` in its folder instead of the terminal. Imports Prefect."""
    import prefect.logging.configuration

    prefect.logging.configuration.setup_logging()
    file = RotatingFileHandler(log_file(), maxBytes=_LOG_BYTES, backupCount=1, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.extra"):
        logger = logging.getLogger(name)
        remote = [handler for handler in logger.handlers if type(handler).__name__ == "APILogHandler"]
        logger.handlers = [*remote, file]
        logger.propagate = False
