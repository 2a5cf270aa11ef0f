"""Deployments served by one process: Prefect starts their runs here, each in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from flows.prefect_server import local as local_prefect
from models.errors import DigitizeError, ReasonCode

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


def schedule(cron: str, timezone: str) -> Any:
    """A schedule that follows the clocks of a place, summer time included.

    Raises DigitizeError(spec_invalid) when the expression or the time zone is unknown.
    """
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        raise DigitizeError(
            ReasonCode.SPEC_INVALID,
            f"expected a cron expression and a time zone, found '{cron}' in '{timezone}'",
            "Five fields such as '0 22 * * 1-5', and an IANA name such as Europe/Rome.",
        ) from error
    return Cron(cron, timezone=timezone)


def _name(spec: Path, what: str) -> str:
    return f"{what}-{spec.absolute().parent.name}-{spec.stem}"


def capture_deployment(spec: Path) -> str:
    """The deployment that digitizes one capture of a specification, as `flow/name`."""
    return f"digitize_capture/{_name(spec, 'capture')}"


def nightly_deployment(
    spec: Path, cron: str, timezone: str, min_success_ratio: float | None = None
) -> RunnerDeployment:
    """The nights of one specification. Two never run at once: one that is still running when the next is due makes
    that one be skipped."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.scheduled_flows import digitize_nightly

    deployment = digitize_nightly.to_deployment(
        name=_name(spec, "nightly"),
        schedule=schedule(cron, timezone) if cron else None,
        parameters={"spec": str(spec.absolute()), "min_success_ratio": min_success_ratio},
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["digitize", "nightly"],
    )
    assert isinstance(deployment, RunnerDeployment)  # and not its coroutine: no event loop runs here
    return deployment


def other_deployments(spec: Path) -> list[RunnerDeployment]:
    """One capture on upload, housekeeping, and the alarm that automations ring."""
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.prefect_server.automations import ALARM
    from flows.scheduled_flows import digitize_alarm, digitize_capture, digitize_housekeeping

    common: dict[str, Any] = {"entrypoint_type": EntrypointType.MODULE_PATH}
    where = {"spec": str(spec.absolute())}
    made = [
        digitize_capture.to_deployment(_name(spec, "capture"), parameters=where, tags=["digitize", "upload"], **common),
        digitize_housekeeping.to_deployment(
            _name(spec, "housekeeping"), parameters=where, tags=["digitize", "housekeeping"], **common
        ),
        digitize_alarm.to_deployment(ALARM, tags=["digitize", "alarm"], **common),
    ]
    assert all(isinstance(each, RunnerDeployment) for each in made)
    return [each for each in made if isinstance(each, RunnerDeployment)]


def serve_nights(spec: Path, cron: str, timezone: str, min_success_ratio: float) -> None:
    """Run `digitize_nightly` at these times until somebody stops this process.

    Without PREFECT_API_URL a temporary server keeps the schedule for as long as this process lives.
    """
    local_prefect.prepare(schedules=True)
    local_prefect.wait_ready(Event())
    from prefect import serve

    serve(nightly_deployment(spec, cron, timezone, min_success_ratio), print_starting_message=False)


def serve_all(spec: Path, cron: str, timezone: str) -> None:
    """Every deployment of a specification on the server of PREFECT_API_URL, with its automations."""
    from prefect import serve

    from flows.prefect_server.automations import make_automations

    deployments = [nightly_deployment(spec, cron, timezone), *other_deployments(spec)]
    for deployment in deployments:
        deployment.apply()
    make_automations()
    if folder := os.environ.get("DIGITIZE_SERVICES_FOLDER"):
        Path(folder, "ready").touch()
    serve(*deployments, print_starting_message=False, limit=4)


if __name__ == "__main__":
    serve_all(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
