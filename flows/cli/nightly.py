"""`nightly`: digitize what changed, now or every night."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.exit_codes import ExitCode
from flows.cli.output import DebugOption, JsonOption, Output, SpecArgument, reporting

if TYPE_CHECKING:
    from flows.nightly.night import Agenda


def nightly(
    spec: SpecArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what changed; run nothing.")] = False,
    min_success_ratio: Annotated[
        float | None, typer.Option("--min-success-ratio", min=0, max=1, help="Else DIGITIZE_MIN_SUCCESS_RATIO.")
    ] = None,
    cron: Annotated[str | None, typer.Option("--cron", help="Stay; do so at these times: '0 22 * * *'.")] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="Of --cron, e.g. Europe/Rome.")] = "UTC",
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Digitize what changed since the last night: captures, options, methods.

    One asset's failure never fails the night; too small a share of results does.
    """
    with reporting("nightly", json, debug) as out:
        from infra.settings import NightSettings

        given: dict[str, Any] = {} if min_success_ratio is None else {"min_success_ratio": min_success_ratio}
        settings = NightSettings(**given)
        if cron is not None:
            from flows.deployments import serve_nights

            out.say(f"every night at '{cron}' {timezone}; stop with Ctrl-C")
            serve_nights(spec, cron, timezone, settings.min_success_ratio)
            return
        if dry_run:
            _dry_run(out, spec, settings)
        else:
            _run(out, spec, settings)


def _dry_run(out: Output, spec: Any, settings: Any) -> None:
    from flows.nightly.run import make_agenda
    from infra.catalogue import Catalogue

    agenda = make_agenda(spec, Catalogue(), settings)
    say_agenda(out, agenda)
    out.document = {
        "batch": agenda.plan.name,
        "changes": [{"asset": each.asset, "need": each.need.value, "why": each.why} for each in agenda.changes],
        "waiting": [each.asset for each in agenda.waiting],
        "unusable": sorted(agenda.plan.unusable),
    }


def say_agenda(out: Output, agenda: Agenda) -> None:
    """One line an asset: what is done with it and why."""
    from flows.cli.style import plain, table

    grid = table("asset", "night", "why")
    for each in agenda.changes:
        grid.add_row(plain(each.asset, "bold"), plain(each.need.value), plain(each.why, "dim"))
    for capture in agenda.waiting:
        why = capture.problem or f"not complete: {', '.join(capture.missing()[:5]) or 'still changing'}"
        grid.add_row(plain(capture.asset, "bold"), plain("wait"), plain(why, "dim"))
    for asset, error in agenda.plan.unusable.items():
        grid.add_row(plain(asset, "bold"), plain("unusable"), plain(error.message, "dim"))
    out.show(grid)


def _run(out: Output, spec: Any, settings: Any) -> None:
    from flows.nightly.run import run_night
    from flows.nightly.summary import summary_document, tell
    from infra.settings import RunSettings

    night = run_night(spec, settings, RunSettings())
    run = None if night.outcome is None else night.outcome.run
    base = (settings.report_url or os.environ.get("PREFECT_UI_URL") or "").rstrip("/")
    tell(night, settings, f"{base}/runs/flow-run/{run}" if base and run else night.summary)
    out.say(night.headline, style="bold green" if night.ok else "bold red")
    for each in night.errors:
        out.say(each, style="yellow")
    if night.left_over:
        out.say(f"{night.left_over} assets are left for the next night", style="yellow")
    if night.summary:
        out.say(f"summary  {night.summary}", style="dim")
    out.document = summary_document(night) | {"summary": night.summary}
    if night.outcome is not None and night.outcome.cancelled:
        out.exit_code = ExitCode.CANCELLED
    elif not night.ok:
        out.exit_code = ExitCode.FAILED
