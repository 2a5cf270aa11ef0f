"""The part of a stage that runs on a Ray node: a child process, its progress and its end through the store."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from flows.runner.job import Job, outcome_to_json
from flows.runner.stage_process import run_job
from infra.storage import open_store
from models.digest import canonical_json
from models.errors import DigitizeError, ReasonCode
from models.results import StageRequest
from models.version import software_version

PROGRESS_S = 2.0
"""Between two looks at the progress of a stage on another node."""
_STOP_POLL_S = 0.7


def progress_key(request: StageRequest) -> str:
    """Where a stage on another node says how far it is."""
    return f"{request.prefix}/progress.json"


def run_on_node(job_json: str, stop_key: str) -> str:
    """The Ray task: run the stage in a child process of this worker until it ends or `stop_key` appears.

    Errors come back as data, so that Ray never repeats them.
    """
    job = Job.model_validate_json(job_json)
    store = open_store(job.store_uri)
    last = [time.monotonic()]
    asked = [time.monotonic()]

    def stopped() -> bool:
        if time.monotonic() - asked[0] < _STOP_POLL_S:
            return False
        asked[0] = time.monotonic()
        with suppress(DigitizeError, OSError):
            return store.stat(stop_key) is not None
        return False

    def share_progress(share: float, message: str, facts: dict[str, Any]) -> None:
        if time.monotonic() - last[0] < PROGRESS_S:
            return
        last[0] = time.monotonic()
        with suppress(DigitizeError, OSError):
            store.put_bytes(progress_key(job.request), canonical_json([share, message, facts]))

    try:
        _check_version(job)
        return outcome_to_json(run_job(job, share_progress, stopped))
    except DigitizeError as error:
        return outcome_to_json(error)


def _check_version(job: Job) -> None:
    """Refuse work from another version: equal keys would hold other results."""
    here = software_version()
    if job.version not in ("", here):
        raise DigitizeError(
            ReasonCode.MISSING_DEPENDENCY,
            f"expected asset-digitizer {job.version} on every node, found {here}",
            hint="Install the same version on the nodes as where the run was started.",
            asset=job.request.asset,
        )
