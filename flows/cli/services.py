"""`up` and `down`: everything that a small installation needs, on one machine, as child processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.output import DebugOption, JsonOption, SpecArgument, reporting

FolderOption = Annotated[
    Path | None, typer.Option("--state", metavar="FOLDER", help="State and logs; else this user's folder for data.")
]


def up(
    spec: SpecArgument,
    state: FolderOption = None,
    port: Annotated[int, typer.Option("--port", help="Of the Prefect server; 0 takes a free one.")] = 4200,
    ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Run stages on a Ray cluster of this machine.")] = True,
    cron: Annotated[str, typer.Option("--cron", help="When nights begin: '0 22 * * *'. Else only by hand.")] = "",
    timezone: Annotated[str, typer.Option("--timezone", help="Of --cron, e.g. Europe/Rome.")] = "UTC",
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Start a Prefect server with its UI, Ray, the deployments and the upload poller on this machine.

    They run until `digitize down`; what ends by itself is started again.
    """
    with reporting("up", json, debug) as out:
        from flows.deployments import schedule
        from flows.machine.services import default_folder, start
        from flows.plan.validate import check_spec

        checked = check_spec(spec)
        if checked.mistakes:
            first = checked.mistakes[0]
            from models.errors import DigitizeError

            raise DigitizeError(first.code, first.message, path=f"{first.path}:{first.line}")
        if cron:
            schedule(cron, timezone)
        found = start(spec, state or default_folder(), ray=ray, cron=cron, timezone=timezone, port=port)
        out.say(f"Prefect    {found.ui_url}")
        out.say(f"services   {', '.join(found.services)}")
        out.say(f"logs       {found.folder}")
        out.say("end it with: digitize down" + (f" --state {state}" if state else ""), style="dim")
        out.document = {"ui_url": found.ui_url, "api_url": found.api_url, "services": list(found.services)}


def down(state: FolderOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """End what `up` started. Running stages go on from their checkpoints in the next run."""
    with reporting("down", json, debug) as out:
        from flows.machine.services import default_folder, stop

        ended = stop(state or default_folder())
        out.say(f"{len(ended)} processes ended" if ended else "nothing was running")
        out.document = {"ended": len(ended)}
