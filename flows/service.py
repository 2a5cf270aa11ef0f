"""Deployments served by this process: Prefect starts their runs here, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

from flows import local_prefect
from models.errors import DigitizeError, ReasonCode


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


def serve_nights(spec: Path, cron: str, timezone: str, min_success_ratio: float) -> None:
    """Run `digitize_nightly` at these times until somebody stops this process.

    Without PREFECT_API_URL a temporary server keeps the schedule for as long as this process lives. Two nights of one
    batch never run at once: one that is still running when the next is due makes that one be skipped.
    """
    local_prefect.prepare(schedules=True)
    local_prefect.wait_ready(Event())
    from prefect import serve
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.deployed import digitize_nightly

    deployment = digitize_nightly.to_deployment(
        name=f"nightly-{spec.absolute().parent.name}-{spec.stem}",
        schedule=schedule(cron, timezone),
        parameters={"spec": str(spec.absolute()), "min_success_ratio": min_success_ratio},
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=["digitize", "nightly"],
    )
    assert isinstance(deployment, RunnerDeployment)  # and not its coroutine: no event loop runs here
    serve(deployment, print_starting_message=False)
