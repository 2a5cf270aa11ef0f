"""A whole run as a Ray job: the cluster drives it, so it goes on when the machine that asked for it goes away."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from models.errors import DigitizeError, ReasonCode
from models.spec_yaml import SpecFile

_POLL_S = 1.0
_SPEC = "batch.yaml"
_CANCELLED = 130


def is_jobs_address(address: str | None) -> bool:
    """Whether an address is that of a cluster's job server rather than of a cluster."""
    return address is not None and address.startswith(("http://", "https://"))


def run_as_job(
    address: str, spec_file: SpecFile, arguments: Sequence[str], environment: dict[str, str], say: Callable[[str], None]
) -> tuple[str, int]:
    """Hand `digitize run` to the cluster and follow it to its end.

    The job gets the specification with every path made absolute: sources and stores are read on the nodes, from S3 or
    from a file system that they share. Ctrl-C here stops the job as it stops a run.

    Args:
        address: `http://host:8265`.
        arguments: of `digitize run`, after the specification.
        environment: for the job's driver. Visible to whoever may look at the cluster: never credentials.
        say: gets each line that the job prints.

    Returns:
        the job's id and the exit code of its driver.

    Raises DigitizeError(worker_lost) when no job server answers, or when the job ends without an exit code.
    """
    try:
        from ray.job_submission import JobStatus, JobSubmissionClient

        client = JobSubmissionClient(address)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, _SPEC).write_text(yaml.safe_dump(portable(spec_file), sort_keys=False), encoding="utf-8")
            job = client.submit_job(
                entrypoint=shlex.join(["python", "-m", "flows.cli", "run", _SPEC, *arguments]),
                runtime_env={"working_dir": folder, "env_vars": environment},
                metadata={"batch": spec_file.spec.name},
            )
    except (ConnectionError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise DigitizeError(
            ReasonCode.WORKER_LOST,
            f"expected a Ray job server at {address}, found: {error}",
            hint="Check DIGITIZE_RAY_ADDRESS; Ray jobs want the extra asset-digitizer[cluster] here and on the head.",
            retryable=True,
        ) from error
    say(f"Ray job {job}")
    told = 0
    try:
        while True:
            ended = client.get_job_status(job) in {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}
            *lines, last = client.get_job_logs(job)[told:].split("\n")
            for line in [*lines, last] if ended else lines:
                say(line)
            told += sum(len(line) + 1 for line in lines)
            if ended:
                break
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        client.stop_job(job)
        return job, _CANCELLED
    return job, _exit_code(client.get_job_info(job), address)


def _exit_code(info: Any, address: str) -> int:
    if info.driver_exit_code is None:
        raise DigitizeError(
            ReasonCode.WORKER_LOST,
            f"Ray job {info.submission_id} at {address} ended without an exit code: {info.message}",
            retryable=True,
        )
    return int(info.driver_exit_code)


def portable(spec_file: SpecFile) -> dict[str, Any]:
    """The specification as it reads from any folder: every path absolute."""
    values: dict[str, Any] = spec_file.spec.model_dump(mode="json", exclude_defaults=True)
    values["store"] = spec_file.resolve(spec_file.spec.store)
    for target in values.get("publish", ()):
        target["to"] = spec_file.resolve(target["to"])
    for asset in values["assets"]:
        for name in ("photos", "truth"):
            if asset.get(name):
                asset[name] = spec_file.resolve(asset[name])
        for name in ("masks", "poses"):
            if asset.get(name):
                asset[name]["path"] = spec_file.resolve(asset[name]["path"])
    return values
